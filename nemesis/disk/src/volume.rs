//! A disk without its mount: what each call does, under the conditions in force, and what a power
//! loss leaves.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::{fs, io};

pub use duress_backend::disks::{Conditions, Counters, Flip, Loss, Syncs};
use duress_seed::Seed;
use nix::errno::Errno;

use crate::DiskError;
use crate::backing::{Backing, permit};
use crate::content::{Content, MAX_LENGTH};
use crate::tree::{Directory, Kind, Owner, ROOT, Tree, errno, is_own};

/// More unsynced bytes than this are not kept: the file that has them is made durable, as a kernel
/// writes back what has waited for long.
const MAX_UNSYNCED: u64 = 64 << 20;

/// The latest write, for a power loss to tear.
#[derive(Clone, Copy, Debug)]
struct Write {
    inode: u64,
    offset: u64,
    length: u64,
}

/// A disk.
#[derive(Debug)]
pub(crate) struct Volume {
    pub(crate) tree: Tree,
    pub(crate) conditions: Conditions,
    pub(crate) counters: Counters,
    /// Power losses so far. What was opened before the last one is not open any more.
    pub(crate) epoch: u64,
    latest: Option<Write>,
    unsynced: u64,
    /// Bits that were flipped, and neither mended nor overwritten since.
    flips: Vec<Flip>,
}

impl Volume {
    /// A disk with what is in a directory, all of it durable. Files, directories and symbolic links
    /// are taken over, other things are left out.
    pub(crate) fn open(directory: &Path) -> Result<Volume, DiskError> {
        let owner = |metadata: &fs::Metadata| Owner {
            mode: metadata.mode() & 0o7777,
            user: metadata.uid(),
            group: metadata.gid(),
        };
        let metadata = fs::metadata(directory).map_err(DiskError::io("look at", directory))?;
        let mut tree = Tree::new(Backing::open(directory)?, owner(&metadata));
        let mut waiting = vec![(ROOT, PathBuf::new())];
        while let Some((parent, inside)) = waiting.pop() {
            let path = directory.join(&inside);
            for entry in fs::read_dir(&path).map_err(DiskError::io("read", &path))? {
                let entry = entry.map_err(DiskError::io("read", &path))?;
                let metadata = entry.metadata().map_err(DiskError::io("look at", entry.path()))?;
                let inside = inside.join(entry.file_name());
                let kind = if metadata.is_file() {
                    Kind::File(Content::durable(metadata.len()))
                } else if metadata.is_dir() {
                    let home = Some((parent, entry.file_name()));
                    Kind::Directory(Directory { parent, home, ..Directory::default() })
                } else if metadata.is_symlink() {
                    Kind::Link(fs::read_link(entry.path()).map_err(DiskError::io("read", entry.path()))?)
                } else {
                    continue;
                };
                let file = metadata.is_file();
                let inode = tree.adopt(parent, entry.file_name(), kind, owner(&metadata));
                if file {
                    let adopted = tree.backing.adopt(inode, &inside);
                    adopted.map_err(|errno| DiskError::io("link", entry.path())(errno.into()))?;
                } else if metadata.is_dir() {
                    waiting.push((inode, inside));
                }
            }
        }
        Ok(Volume {
            tree,
            conditions: Conditions::default(),
            counters: Counters::default(),
            epoch: 0,
            latest: None,
            unsynced: 0,
            flips: Vec::new(),
        })
    }

    /// Makes everything durable but the harness's own files, and lets go of the directory.
    pub(crate) fn close(mut self) -> io::Result<()> {
        let names = self.tree.directory(ROOT)?.entries.keys().filter(|name| is_own(name)).cloned();
        for name in names.collect::<Vec<_>>() {
            self.tree.unlink(ROOT, &name, false)?;
        }
        let inodes: Vec<u64> = self.tree.inodes.keys().copied().collect();
        for inode in inodes {
            match self.tree.inodes.get(&inode).map(|inode| &inode.kind) {
                Some(Kind::File(content)) if content.is_dirty() || content.unsynced() > 0 => {
                    let (content, object) = self.tree.content(inode)?;
                    content.write_back(object)?;
                    self.tree.rest(inode);
                }
                Some(Kind::Directory(_)) => self.tree.sync_directory(inode)?,
                _ => {}
            }
        }
        self.tree.backing.close()
    }

    /// Counts something that happened to a file, unless it is the harness's own.
    pub(crate) fn count(&mut self, inode: u64, counter: impl FnOnce(&mut Counters) -> &mut u64) {
        if self.tree.inode(inode).is_ok_and(|inode| !inode.own) {
            *counter(&mut self.counters) += 1;
        }
    }

    /// An inode is to be changed.
    fn change(&mut self, inode: u64) -> nix::Result<()> {
        if self.conditions.read_only {
            self.count(inode, |counters| &mut counters.read_only);
            return Err(Errno::EROFS);
        }
        Ok(())
    }

    /// An inode is to be changed so that it needs more room.
    fn grow(&mut self, inode: u64) -> nix::Result<()> {
        self.change(inode)?;
        if self.conditions.full {
            self.count(inode, |counters| &mut counters.no_space);
            return Err(Errno::ENOSPC);
        }
        Ok(())
    }

    /// Makes an empty file, a directory or a link.
    pub(crate) fn make(&mut self, parent: u64, name: &OsStr, kind: Kind, owner: Owner) -> nix::Result<u64> {
        self.grow(parent)?;
        self.tree.make(parent, name, kind, owner)
    }

    /// Gives a file another name.
    pub(crate) fn link(&mut self, inode: u64, parent: u64, name: &OsStr) -> nix::Result<()> {
        self.grow(parent)?;
        self.tree.link(inode, parent, name)
    }

    /// Removes a name.
    pub(crate) fn unlink(&mut self, parent: u64, name: &OsStr, directory: bool) -> nix::Result<()> {
        self.change(parent)?;
        self.tree.unlink(parent, name, directory)
    }

    /// Renames, instead of whatever has the new name unless `keep` is set.
    pub(crate) fn rename(&mut self, from: (u64, &OsStr), to: (u64, &OsStr), keep: bool) -> nix::Result<()> {
        self.change(from.0)?;
        if keep && self.tree.lookup(to.0, to.1).is_ok() {
            return Err(Errno::EEXIST);
        }
        self.tree.rename(from, to)
    }

    /// Opens a file, perhaps for writing. Returns what the other calls know it by.
    pub(crate) fn open_file(&mut self, inode: u64, write: bool) -> nix::Result<u64> {
        if write {
            self.change(inode)?;
        }
        self.tree.content(inode)?;
        self.tree.open(inode)?;
        Ok(self.epoch)
    }

    /// Closes a file.
    pub(crate) fn close_file(&mut self, inode: u64, handle: u64) -> nix::Result<()> {
        if handle == self.epoch { self.tree.close(inode) } else { Ok(()) }
    }

    /// Whether what was opened is still open.
    fn check(&self, handle: u64) -> nix::Result<()> {
        if handle == self.epoch { Ok(()) } else { Err(Errno::EIO) }
    }

    /// Reads from a file.
    pub(crate) fn read(&mut self, inode: u64, handle: u64, offset: u64, length: u64) -> nix::Result<Vec<u8>> {
        self.check(handle)?;
        self.count(inode, |counters| &mut counters.reads);
        if self.conditions.read_error {
            self.count(inode, |counters| &mut counters.reads_failed);
            return Err(Errno::EIO);
        }
        let (content, object) = self.tree.content(inode)?;
        content.read(object, offset, length).map_err(|error| errno(&error))
    }

    /// Writes to a file, and makes it durable at once if `sync` is set.
    pub(crate) fn write(&mut self, inode: u64, handle: u64, offset: u64, data: &[u8], sync: bool) -> nix::Result<()> {
        self.check(handle)?;
        self.count(inode, |counters| &mut counters.writes);
        let end = offset.saturating_add(data.len() as u64);
        if end > MAX_LENGTH {
            return Err(Errno::EFBIG);
        }
        self.change(inode)?;
        if end > self.tree.content(inode)?.0.size() {
            self.grow(inode)?;
        }
        self.tracked(inode, |content, _| {
            content.write(offset, data);
            Ok(())
        })?;
        self.tree.inode_mut(inode)?.touch();
        if !self.tree.inode(inode)?.own {
            self.latest = Some(Write { inode, offset, length: data.len() as u64 });
        }
        if self.unsynced > MAX_UNSYNCED {
            self.write_back()?;
        }
        if sync { self.sync(inode) } else { Ok(()) }
    }

    /// Cuts a file off, or makes it longer.
    pub(crate) fn truncate(&mut self, inode: u64, size: u64) -> nix::Result<()> {
        if size > MAX_LENGTH {
            return Err(Errno::EFBIG);
        }
        self.change(inode)?;
        if size > self.tree.content(inode)?.0.size() {
            self.grow(inode)?;
        }
        self.tracked(inode, |content, _| {
            content.truncate(size);
            Ok(())
        })?;
        self.tree.inode_mut(inode)?.touch();
        self.tree.rest(inode);
        Ok(())
    }

    /// Makes a file at least so long.
    pub(crate) fn allocate(&mut self, inode: u64, handle: u64, end: u64) -> nix::Result<()> {
        self.check(handle)?;
        if end > self.tree.content(inode)?.0.size() { self.truncate(inode, end) } else { self.change(inode) }
    }

    /// Changes permissions or owners.
    pub(crate) fn own(&mut self, inode: u64, change: impl FnOnce(&mut Owner)) -> nix::Result<()> {
        self.change(inode)?;
        let changed = self.tree.inode_mut(inode)?;
        change(&mut changed.owner);
        changed.changed = std::time::SystemTime::now();
        let mode = changed.owner.mode;
        if matches!(changed.kind, Kind::File(_)) {
            let (_, object) = self.tree.content(inode)?;
            permit(object, mode).map_err(|error| errno(&error))?;
            self.tree.rest(inode);
        }
        Ok(())
    }

    /// A sync of an open file.
    pub(crate) fn sync_file(&mut self, inode: u64, handle: u64) -> nix::Result<()> {
        self.check(handle)?;
        self.sync(inode)
    }

    fn sync(&mut self, inode: u64) -> nix::Result<()> {
        self.count(inode, |counters| &mut counters.syncs);
        let dirty = self.tree.content(inode)?.0.is_dirty();
        if self.conditions.read_only && dirty {
            return self.change(inode);
        }
        match self.conditions.syncs {
            Syncs::Work => {
                let content = &*self.tree.content(inode)?.0;
                self.flips.retain(|flip| flip.inode != inode || !content.replaces(flip.offset));
                self.tracked(inode, |content, object| content.sync(object))?;
                self.latest.take_if(|latest| latest.inode == inode);
                Ok(())
            }
            Syncs::Lie => {
                self.count(inode, |counters| &mut counters.syncs_lied);
                Ok(())
            }
            Syncs::Fail => {
                self.count(inode, |counters| &mut counters.syncs_failed);
                self.tracked(inode, |content, _| {
                    content.fail_sync();
                    Ok(())
                })?;
                Err(Errno::EIO)
            }
        }
    }

    /// A sync of a directory.
    pub(crate) fn sync_directory(&mut self, inode: u64) -> nix::Result<()> {
        self.count(inode, |counters| &mut counters.syncs);
        match self.conditions.syncs {
            Syncs::Work => self.tree.sync_directory(inode),
            Syncs::Lie => {
                self.count(inode, |counters| &mut counters.syncs_lied);
                Ok(())
            }
            Syncs::Fail => {
                self.count(inode, |counters| &mut counters.syncs_failed);
                Err(Errno::EIO)
            }
        }
    }

    /// Does something to a file's content and keeps account of what is unsynced.
    fn tracked(&mut self, inode: u64, work: impl FnOnce(&mut Content, &fs::File) -> io::Result<()>) -> nix::Result<()> {
        let (content, object) = self.tree.content(inode)?;
        let before = content.unsynced();
        let result = work(content, object).map_err(|error| errno(&error));
        self.unsynced = (self.unsynced + content.unsynced()).saturating_sub(before);
        result
    }

    /// Makes the files durable that have the most unsynced bytes, until there are few.
    fn write_back(&mut self) -> nix::Result<()> {
        let unsynced = |tree: &Tree| -> Vec<(u64, u64)> {
            let of = |kind: &Kind| if let Kind::File(content) = kind { content.unsynced() } else { 0 };
            tree.inodes.iter().map(|(inode, at)| (of(&at.kind), *inode)).filter(|(bytes, _)| *bytes > 0).collect()
        };
        // What files had that nobody can reach any more is not counted when they go.
        let mut files = unsynced(&self.tree);
        files.sort_unstable();
        self.unsynced = files.iter().map(|(bytes, _)| bytes).sum();
        while self.unsynced > MAX_UNSYNCED / 2
            && let Some((bytes, inode)) = files.pop()
        {
            self.counters.written_back += bytes;
            self.tracked(inode, |content, object| content.write_back(object))?;
            self.tree.rest(inode);
        }
        Ok(())
    }

    /// The durable content of a file with a durable name.
    pub(crate) fn durable(&self, path: &Path) -> nix::Result<Option<Vec<u8>>> {
        match self.tree.backing.shown(path) {
            Ok(mut file) => {
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes).map_err(|error| errno(&error))?;
                Ok(Some(bytes))
            }
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// The power fails: what is not durable is gone, and nothing is open any more. With a seed, the
    /// latest write survives in part.
    pub(crate) fn power_loss(&mut self, torn: Option<Seed>) -> nix::Result<Loss> {
        let mut loss = Loss::default();
        let durable = self.tree.durable_files();
        if let (Some(seed), Some(Write { inode, offset, length })) = (torn, self.latest)
            && durable.values().any(|at| *at == inode)
        {
            let (content, object) = self.tree.content(inode)?;
            let torn = content.tear(object, offset, length, seed).map_err(|error| errno(&error))?;
            (loss.bytes, loss.torn) = torn;
        }
        let kept: std::collections::BTreeSet<u64> = durable.into_values().collect();
        for (number, inode) in &self.tree.inodes {
            if let Kind::File(content) = &inode.kind
                && inode.names > 0
                && !inode.own
            {
                loss.bytes += if kept.contains(number) { content.unsynced() } else { content.size() };
            }
        }
        loss.names = self.tree.forget()?;
        self.flips.retain(|flip| self.tree.inodes.contains_key(&flip.inode));
        self.latest = None;
        self.unsynced = 0;
        self.epoch += 1;
        self.counters.power_losses += 1;
        self.counters.bytes_lost += loss.bytes;
        self.counters.names_lost += loss.names;
        self.counters.bytes_torn += loss.torn;
        Ok(loss)
    }

    /// Flips a bit of a durable byte that programs see, in a file chosen by the seed; not of a zero
    /// if there is anything else, since files are often filled up with those. Returns nothing if
    /// there is no such byte.
    pub(crate) fn flip(&mut self, seed: Seed) -> nix::Result<Option<Flip>> {
        let files: Vec<(PathBuf, u64)> = self
            .tree
            .durable_files()
            .into_iter()
            .filter(|(_, inode)| self.tree.inode(*inode).is_ok_and(|inode| !inode.own))
            .collect();
        for (at, file) in duress_seed::shuffled(seed, &[0], files.len()).into_iter().enumerate() {
            let (path, inode) = &files[file];
            let (content, object) = self.tree.content(*inode)?;
            let length = content.durable_size();
            let found =
                find(content, object, seed.decide(&[1, at as u64]).below(length)).map_err(|error| errno(&error))?;
            let Some((offset, before)) = found else {
                self.tree.rest(*inode);
                continue;
            };
            let after = before ^ 1 << seed.decide(&[2]).below(8);
            let flip = Flip { path: path.clone(), offset, before, after, inode: *inode };
            object.write_all_at(&[after], offset).map_err(|error| errno(&error))?;
            self.tree.rest(*inode);
            self.counters.bits_flipped += 1;
            self.flips.push(flip.clone());
            return Ok(Some(flip));
        }
        Ok(None)
    }

    /// Flips a bit back, unless the byte has been overwritten or has gone since. Whether it has not.
    pub(crate) fn mend(&mut self, flip: &Flip) -> nix::Result<bool> {
        let Some(at) = self.flips.iter().position(|other| other == flip) else { return Ok(false) };
        self.flips.swap_remove(at);
        let Ok((content, object)) = self.tree.content(flip.inode) else { return Ok(false) };
        let there = flip.offset < content.durable_size();
        if there {
            object.write_all_at(&[flip.before], flip.offset).map_err(|error| errno(&error))?;
        }
        self.tree.rest(flip.inode);
        Ok(there)
    }

    /// Whether a flipped bit is neither mended nor overwritten.
    pub(crate) fn is_damaged(&self) -> bool {
        !self.flips.is_empty()
    }
}

/// The first byte at or behind a place, round the end, that is durable and visible, and not zero
/// if there is one.
fn find(content: &Content, object: &fs::File, place: u64) -> io::Result<Option<(u64, u8)>> {
    let length = content.durable_size();
    let mut zero = None;
    let mut buffer = vec![0; 64 << 10];
    for (from, to) in [(place, length), (0, place)] {
        let mut at = from;
        while at < to {
            let part = &mut buffer[..(to - at).min(64 << 10) as usize];
            object.read_exact_at(part, at)?;
            for (offset, byte) in (at..).zip(part.iter().copied()) {
                match byte {
                    0 if zero.is_none() && content.shows(offset) => zero = Some((offset, 0)),
                    0 => {}
                    byte if content.shows(offset) => return Ok(Some((offset, byte))),
                    _ => {}
                }
            }
            at += part.len() as u64;
        }
    }
    Ok(zero)
}

impl Tree {
    /// Takes over something that is in the backing directory.
    fn adopt(&mut self, parent: u64, name: OsString, kind: Kind, owner: Owner) -> u64 {
        let inode = self.add(kind, owner);
        if let Some(made) = self.inodes.get_mut(&inode) {
            (made.names, made.durable_names, made.own) = (1, 1, is_own(&name));
        }
        if let Some(Kind::Directory(directory)) = self.inodes.get_mut(&parent).map(|parent| &mut parent.kind) {
            directory.entries.insert(name.clone(), inode);
            directory.durable.insert(name, inode);
        }
        inode
    }
}
