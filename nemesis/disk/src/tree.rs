//! Inodes and names, twice: as programs see them, and as they are durable.
//!
//! A name becomes durable when the directory it is in is synced, and not before: that is what
//! POSIX promises, and file systems that promise more don't all promise the same. Two rules make
//! renames atomic. A file that was moved between directories is durable in both once either is
//! synced. A directory that is moved to another one is durable there at once, so that what is
//! durable never has a loop. Permissions and owners are durable at once.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::errno::Errno;

use crate::backing::{Backing, permit};
use crate::content::Content;

/// The inode of the root, which has no name.
pub(crate) const ROOT: u64 = 1;

/// Files whose names begin like this are the harness's own, for its probes: they are not listed, no
/// counter counts them, and neither torn writes nor flipped bits are theirs.
pub const OWN_PREFIX: &str = ".duress";

/// Names may be this long, in bytes, as in other file systems.
const MAX_NAME: usize = 255;

/// Nothing is made in directories deeper than this.
const MAX_DEPTH: usize = 100;

/// The names in a directory.
pub(crate) type Names = BTreeMap<OsString, u64>;

/// A directory.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    pub(crate) parent: u64,
    pub(crate) entries: Names,
    pub(crate) durable: Names,
    /// Its own durable name: in which directory, and which.
    pub(crate) home: Option<(u64, OsString)>,
}

#[derive(Debug)]
pub(crate) enum Kind {
    File(Content),
    Directory(Directory),
    Link(PathBuf),
}

/// Whom an inode belongs to and who may use it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    /// Permissions, without the type.
    pub(crate) mode: u32,
    pub(crate) user: u32,
    pub(crate) group: u32,
}

#[derive(Debug)]
pub(crate) struct Inode {
    pub(crate) kind: Kind,
    pub(crate) owner: Owner,
    pub(crate) accessed: SystemTime,
    pub(crate) modified: SystemTime,
    pub(crate) changed: SystemTime,
    /// How often it is open.
    pub(crate) opens: u32,
    /// How many names programs see.
    pub(crate) names: u32,
    /// How many names are durable.
    pub(crate) durable_names: u32,
    /// It was made by the harness, and what happens to it is nobody's business.
    pub(crate) own: bool,
    /// Its object, while somebody uses it.
    object: Option<File>,
}

impl Inode {
    pub(crate) fn new(kind: Kind, owner: Owner) -> Inode {
        let now = SystemTime::now();
        let (accessed, modified, changed) = (now, now, now);
        Inode {
            kind,
            owner,
            accessed,
            modified,
            changed,
            opens: 0,
            names: 0,
            durable_names: 0,
            own: false,
            object: None,
        }
    }

    /// Its content was changed now.
    pub(crate) fn touch(&mut self) {
        let now = SystemTime::now();
        (self.modified, self.changed) = (now, now);
    }
}

/// All inodes of one disk.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) inodes: BTreeMap<u64, Inode>,
    pub(crate) backing: Backing,
    next: u64,
    /// Between which directories names were moved since either was synced.
    moves: Vec<(u64, u64)>,
}

impl Tree {
    /// An empty root.
    pub(crate) fn new(backing: Backing, owner: Owner) -> Tree {
        let root = Directory { parent: ROOT, ..Directory::default() };
        let mut root = Inode::new(Kind::Directory(root), owner);
        (root.names, root.durable_names) = (1, 1);
        Tree { inodes: BTreeMap::from([(ROOT, root)]), backing, next: ROOT + 1, moves: Vec::new() }
    }

    pub(crate) fn inode(&self, inode: u64) -> nix::Result<&Inode> {
        self.inodes.get(&inode).ok_or(Errno::ENOENT)
    }

    pub(crate) fn inode_mut(&mut self, inode: u64) -> nix::Result<&mut Inode> {
        self.inodes.get_mut(&inode).ok_or(Errno::ENOENT)
    }

    pub(crate) fn directory(&self, inode: u64) -> nix::Result<&Directory> {
        match &self.inode(inode)?.kind {
            Kind::Directory(directory) => Ok(directory),
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn directory_mut(&mut self, inode: u64) -> nix::Result<&mut Directory> {
        match &mut self.inode_mut(inode)?.kind {
            Kind::Directory(directory) => Ok(directory),
            _ => Err(Errno::ENOTDIR),
        }
    }

    /// A file's content and its object.
    pub(crate) fn content(&mut self, inode: u64) -> nix::Result<(&mut Content, &File)> {
        let Tree { inodes, backing, .. } = self;
        let Inode { kind, object, .. } = inodes.get_mut(&inode).ok_or(Errno::ENOENT)?;
        match kind {
            Kind::File(content) => {
                let object = match object {
                    Some(object) => object,
                    None => object.insert(backing.object(inode)?),
                };
                Ok((content, object))
            }
            Kind::Directory(_) => Err(Errno::EISDIR),
            Kind::Link(_) => Err(Errno::EINVAL),
        }
    }

    pub(crate) fn lookup(&self, parent: u64, name: &OsStr) -> nix::Result<u64> {
        self.directory(parent)?.entries.get(name).copied().ok_or(Errno::ENOENT)
    }

    /// An inode of its own for something that has no name yet.
    pub(crate) fn add(&mut self, kind: Kind, owner: Owner) -> u64 {
        let inode = self.next;
        self.next += 1;
        self.inodes.insert(inode, Inode::new(kind, owner));
        inode
    }

    /// Makes an empty file, a directory or a link under a new name.
    pub(crate) fn make(&mut self, parent: u64, name: &OsStr, mut kind: Kind, owner: Owner) -> nix::Result<u64> {
        self.check_new(parent, name)?;
        let object = match &mut kind {
            Kind::File(_) => {
                let object = self.backing.create(self.next)?;
                permit(&object, owner.mode).map_err(|error| errno(&error))?;
                Some(object)
            }
            Kind::Directory(directory) => {
                directory.parent = parent;
                None
            }
            Kind::Link(_) => None,
        };
        let inode = self.add(kind, owner);
        let made = self.inode_mut(inode)?;
        (made.object, made.names, made.own) = (object, 1, is_own(name));
        self.directory_mut(parent)?.entries.insert(name.to_owned(), inode);
        self.inode_mut(parent)?.touch();
        Ok(inode)
    }

    /// Gives a file another name.
    pub(crate) fn link(&mut self, inode: u64, parent: u64, name: &OsStr) -> nix::Result<()> {
        self.check_new(parent, name)?;
        if matches!(self.inode(inode)?.kind, Kind::Directory(_)) {
            return Err(Errno::EPERM);
        }
        self.directory_mut(parent)?.entries.insert(name.to_owned(), inode);
        self.inode_mut(inode)?.names += 1;
        self.inode_mut(parent)?.touch();
        Ok(())
    }

    /// Removes a name, of a directory or of anything else.
    pub(crate) fn unlink(&mut self, parent: u64, name: &OsStr, directory: bool) -> nix::Result<()> {
        let inode = self.lookup(parent, name)?;
        match (&self.inode(inode)?.kind, directory) {
            (Kind::Directory(_), false) => return Err(Errno::EISDIR),
            (Kind::Directory(gone), true) if !gone.entries.is_empty() => return Err(Errno::ENOTEMPTY),
            (Kind::File(_) | Kind::Link(_), true) => return Err(Errno::ENOTDIR),
            _ => {}
        }
        self.directory_mut(parent)?.entries.remove(name);
        self.inode_mut(parent)?.touch();
        self.inode_mut(inode)?.names -= 1;
        self.collect(inode)
    }

    /// Gives something another name, instead of whatever has it.
    pub(crate) fn rename(&mut self, from: (u64, &OsStr), to: (u64, &OsStr)) -> nix::Result<()> {
        let inode = self.lookup(from.0, from.1)?;
        let moved = matches!(self.inode(inode)?.kind, Kind::Directory(_));
        self.check_path(to.0, to.1)?;
        if moved && self.above(to.0).any(|above| above == inode) {
            return Err(Errno::EINVAL);
        }
        if let Ok(target) = self.lookup(to.0, to.1) {
            if target == inode {
                return Ok(());
            }
            let replaced = matches!(self.inode(target)?.kind, Kind::Directory(_));
            match (moved, replaced) {
                (true, false) => return Err(Errno::ENOTDIR),
                (false, true) => return Err(Errno::EISDIR),
                _ => self.unlink(to.0, to.1, replaced)?,
            }
        }
        self.directory_mut(from.0)?.entries.remove(from.1);
        self.directory_mut(to.0)?.entries.insert(to.1.to_owned(), inode);
        self.inode_mut(from.0)?.touch();
        self.inode_mut(to.0)?.touch();
        if from.0 != to.0 {
            self.moves.push((from.0, to.0));
            if moved {
                self.directory_mut(inode)?.parent = to.0;
                self.sync_directory(to.0)?;
            }
        }
        Ok(())
    }

    pub(crate) fn open(&mut self, inode: u64) -> nix::Result<()> {
        self.inode_mut(inode)?.opens += 1;
        Ok(())
    }

    pub(crate) fn close(&mut self, inode: u64) -> nix::Result<()> {
        let closed = self.inode_mut(inode)?;
        closed.opens = closed.opens.saturating_sub(1);
        self.rest(inode);
        self.collect(inode)
    }

    /// Closes the object of an inode that isn't open.
    pub(crate) fn rest(&mut self, inode: u64) {
        if let Some(inode) = self.inodes.get_mut(&inode)
            && inode.opens == 0
        {
            inode.object = None;
        }
    }

    /// Makes the names in a directory durable.
    pub(crate) fn sync_directory(&mut self, inode: u64) -> nix::Result<()> {
        self.directory(inode)?;
        let mut together = BTreeSet::from([inode]);
        loop {
            let before = together.len();
            for (a, b) in &self.moves {
                if together.contains(a) || together.contains(b) {
                    together.extend([*a, *b]);
                }
            }
            if together.len() == before {
                break;
            }
        }
        self.moves.retain(|(a, _)| !together.contains(a));
        together.retain(|inode| self.inodes.contains_key(inode));
        // New names first, so that nothing that was moved is nowhere.
        let mut gone = Vec::new();
        for inode in together {
            gone.push((inode, self.show_new(inode)?));
        }
        for (inode, names) in gone {
            self.hide_gone(inode, names)?;
        }
        Ok(())
    }

    /// Makes a directory's new names durable. Returns the durable ones that it doesn't have any more.
    fn show_new(&mut self, inode: u64) -> nix::Result<Names> {
        let Directory { entries, durable, .. } = self.directory(inode)?;
        let differs = |other: &Names, (name, inode): &(&OsString, &u64)| other.get(*name) != Some(*inode);
        let owned = |(name, inode): (&OsString, &u64)| (name.clone(), *inode);
        let new: Names = entries.iter().filter(|entry| differs(durable, entry)).map(owned).collect();
        let mut gone: Names = durable.iter().filter(|entry| differs(entries, entry)).map(owned).collect();
        let place = self.durable_path(inode);
        for (name, child) in new {
            let path = place.as_ref().map(|place| place.join(&name));
            if let Some(old) = gone.remove(&name) {
                // Only a file's name passes to another file in one step.
                let is_file = |inode| self.inodes.get(inode).is_some_and(|inode| matches!(inode.kind, Kind::File(_)));
                let files = [old, child].iter().all(is_file);
                if let Some(path) = &path
                    && !files
                {
                    self.backing.hide(path)?;
                }
                self.directory_mut(inode)?.durable.remove(&name);
                self.release(old, inode, &name)?;
            }
            if let Some(path) = &path {
                self.show(path, child)?;
            }
            self.directory_mut(inode)?.durable.insert(name.clone(), child);
            let shown = self.inode_mut(child)?;
            shown.durable_names += 1;
            if let Kind::Directory(directory) = &mut shown.kind {
                directory.home = Some((inode, name));
            }
        }
        Ok(gone)
    }

    /// Makes it durable that a directory doesn't have these names any more.
    fn hide_gone(&mut self, inode: u64, gone: Names) -> nix::Result<()> {
        if !self.inodes.contains_key(&inode) {
            return Ok(());
        }
        let place = self.durable_path(inode);
        for (name, child) in gone {
            if let Some(place) = &place {
                self.backing.hide(&place.join(&name))?;
            }
            self.directory_mut(inode)?.durable.remove(&name);
            self.release(child, inode, &name)?;
        }
        Ok(())
    }

    /// An inode has lost its durable name in `parent`.
    fn release(&mut self, inode: u64, parent: u64, name: &OsStr) -> nix::Result<()> {
        let released = self.inode_mut(inode)?;
        released.durable_names -= 1;
        if let Kind::Directory(directory) = &mut released.kind
            && directory.home.as_ref().is_some_and(|home| home.0 == parent && home.1 == name)
        {
            directory.home = None;
        }
        self.collect(inode)
    }

    /// Puts what is durable of an inode into the backing directory.
    fn show(&self, path: &Path, inode: u64) -> nix::Result<()> {
        let mut waiting = vec![(path.to_path_buf(), inode)];
        while let Some((path, inode)) = waiting.pop() {
            match &self.inode(inode)?.kind {
                Kind::File(_) => self.backing.show(inode, &path)?,
                Kind::Link(target) => self.backing.make_link(target, &path)?,
                Kind::Directory(directory) => {
                    self.backing.make_directory(&path)?;
                    waiting.extend(directory.durable.iter().map(|(name, child)| (path.join(name), *child)));
                }
            }
        }
        Ok(())
    }

    /// The path of a directory in the backing directory, if all of it is durable.
    pub(crate) fn durable_path(&self, inode: u64) -> Option<PathBuf> {
        let mut names = Vec::new();
        let mut at = inode;
        while at != ROOT {
            let (parent, name) = self.directory(at).ok()?.home.as_ref()?;
            names.push(name);
            at = *parent;
        }
        Some(names.into_iter().rev().collect())
    }

    /// A directory, the one it is in, and so on up to the root.
    fn above(&self, inode: u64) -> impl Iterator<Item = u64> {
        std::iter::successors(Some(inode), |at| match *at {
            ROOT => None,
            at => self.directory(at).ok().map(|directory| directory.parent),
        })
    }

    fn check_new(&self, parent: u64, name: &OsStr) -> nix::Result<()> {
        if self.directory(parent)?.entries.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        // A directory that was removed while it was somebody's working directory takes nothing.
        if self.inode(parent)?.names == 0 {
            return Err(Errno::ENOENT);
        }
        self.check_path(parent, name)
    }

    /// Whether the path to `name` in `parent` is short enough.
    fn check_path(&self, parent: u64, name: &OsStr) -> nix::Result<()> {
        if name.len() > MAX_NAME || self.above(parent).nth(MAX_DEPTH).is_some() {
            return Err(Errno::ENAMETOOLONG);
        }
        Ok(())
    }

    /// Lets go of an inode that nobody can reach any more, and of what only it leads to.
    fn collect(&mut self, inode: u64) -> nix::Result<()> {
        let mut waiting = vec![inode];
        while let Some(at) = waiting.pop() {
            let inode = self.inode_mut(at)?;
            if inode.names > 0 || inode.opens > 0 {
                continue;
            }
            // What is not durable of it can neither be read nor synced any more.
            if let Kind::File(content) = &mut inode.kind {
                content.forget();
            }
            inode.object = None;
            if inode.durable_names > 0 {
                continue;
            }
            match self.inodes.remove(&at).map(|inode| inode.kind) {
                Some(Kind::File(_)) => self.backing.remove(at)?,
                Some(Kind::Directory(directory)) => {
                    for child in directory.durable.into_values() {
                        let inode = self.inode_mut(child)?;
                        inode.durable_names -= 1;
                        waiting.push(child);
                    }
                    self.moves.retain(|(a, b)| *a != at && *b != at);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Only what is durable is left, and nothing is open. Returns how many names are lost: that
    /// were not durable, or were removed and are back.
    pub(crate) fn forget(&mut self) -> nix::Result<u64> {
        let mut lost = 0;
        self.moves.clear();
        for inode in self.inodes.values_mut() {
            (inode.names, inode.durable_names, inode.opens) = (0, 0, 0);
            inode.object = None;
            match &mut inode.kind {
                Kind::File(content) => drop(content.forget()),
                Kind::Directory(directory) => {
                    let differs = |name: &&OsString| directory.entries.get(*name) != directory.durable.get(*name);
                    let all: BTreeSet<&OsString> = directory.entries.keys().chain(directory.durable.keys()).collect();
                    lost += all.iter().filter(|name| differs(name) && !is_own(name)).count() as u64;
                    directory.entries = directory.durable.clone();
                }
                Kind::Link(_) => {}
            }
        }
        let mut waiting = vec![ROOT];
        while let Some(at) = waiting.pop() {
            let children: Vec<u64> = self.directory(at)?.durable.values().copied().collect();
            for child in children {
                let inode = self.inode_mut(child)?;
                (inode.names, inode.durable_names) = (inode.names + 1, inode.durable_names + 1);
                if let Kind::Directory(directory) = &mut inode.kind {
                    directory.parent = at;
                    waiting.push(child);
                }
            }
        }
        let root = self.inode_mut(ROOT)?;
        (root.names, root.durable_names) = (1, 1);
        let unreachable: Vec<u64> =
            self.inodes.iter().filter(|(_, inode)| inode.names == 0).map(|(number, _)| *number).collect();
        for inode in unreachable {
            if let Some(Inode { kind: Kind::File(_), .. }) = self.inodes.remove(&inode) {
                self.backing.remove(inode)?;
            }
        }
        Ok(lost)
    }

    /// The files with a durable name, by it.
    pub(crate) fn durable_files(&self) -> BTreeMap<PathBuf, u64> {
        let mut files = BTreeMap::new();
        let mut waiting = vec![(PathBuf::new(), ROOT)];
        while let Some((path, inode)) = waiting.pop() {
            match self.inodes.get(&inode).map(|inode| &inode.kind) {
                Some(Kind::File(_)) => drop(files.insert(path, inode)),
                Some(Kind::Directory(directory)) => {
                    waiting.extend(directory.durable.iter().map(|(name, child)| (path.join(name), *child)));
                }
                _ => {}
            }
        }
        files
    }
}

/// Whether a name is one of the harness's own.
pub(crate) fn is_own(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(OWN_PREFIX.as_bytes())
}

/// The number of a system's error.
pub(crate) fn errno(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}
