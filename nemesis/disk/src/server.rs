//! The file system as the kernel calls it: each request is a call on the [`Volume`], answered late
//! if the disk is slow.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use crate::content::Content;
use crate::tree::{Directory, Kind, Owner, is_own};
use crate::volume::Volume;

/// Nothing is cached by the kernel: what it knows of names and attributes is good for one call.
const TTL: Duration = Duration::ZERO;

/// An answer that is given later.
pub(crate) type Late = (Instant, Box<dyn FnOnce() + Send>);

/// Serves a volume. Its lock is held for the time of one call.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) volume: Arc<Mutex<Option<Volume>>>,
    pub(crate) late: Sender<Late>,
}

/// Locks a volume. Nothing that holds the lock panics half-way through a change.
pub(crate) fn lock(volume: &Mutex<Option<Volume>>) -> MutexGuard<'_, Option<Volume>> {
    volume.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Server {
    /// Does something to the volume, unless it is closed.
    fn with<T>(&self, work: impl FnOnce(&mut Volume) -> nix::Result<T>) -> Result<T, Errno> {
        let mut volume = lock(&self.volume);
        let volume = volume.as_mut().ok_or(Errno::EIO)?;
        work(volume).map_err(|errno| Errno::from_i32(errno as i32))
    }

    /// The same, and answers: at once, or late if the disk is slow.
    fn slowly<T: Send + 'static>(
        &self,
        inode: INodeNo,
        work: impl FnOnce(&mut Volume) -> nix::Result<T>,
        answer: impl FnOnce(Result<T, Errno>) + Send + 'static,
    ) {
        let mut slow = Duration::ZERO;
        let result = self.with(|volume| {
            slow = volume.conditions.slow;
            if !slow.is_zero() {
                volume.count(inode.0, |counters| &mut counters.slowed);
            }
            work(volume)
        });
        if slow.is_zero() {
            return answer(result);
        }
        // The thread that takes them ends after this one; if it is gone, the kernel gets an error.
        let _ = self.late.send((Instant::now() + slow, Box::new(move || answer(result))));
    }

    fn made(&self, parent: INodeNo, name: &OsStr, kind: Kind, owner: Owner, reply: ReplyEntry) {
        let made = self.with(|volume| {
            let inode = volume.make(parent.0, name, kind, owner)?;
            volume.tree.rest(inode);
            attributes(volume, inode)
        });
        entry(made, reply);
    }
}

/// Whom something new belongs to.
fn owner(request: &Request, mode: u32, umask: u32) -> Owner {
    Owner { mode: mode & !umask & 0o7777, user: request.uid(), group: request.gid() }
}

fn attributes(volume: &Volume, number: u64) -> nix::Result<FileAttr> {
    let inode = volume.tree.inode(number)?;
    let (kind, size) = match &inode.kind {
        Kind::File(content) => (FileType::RegularFile, content.size()),
        Kind::Directory(_) => (FileType::Directory, 0),
        Kind::Link(target) => (FileType::Symlink, target.as_os_str().len() as u64),
    };
    Ok(FileAttr {
        ino: INodeNo(number),
        size,
        blocks: size.div_ceil(512),
        atime: inode.accessed,
        mtime: inode.modified,
        ctime: inode.changed,
        crtime: SystemTime::UNIX_EPOCH,
        kind,
        perm: inode.owner.mode as u16,
        // Of a directory 1 means that nobody counted.
        nlink: if kind == FileType::Directory { 1 } else { inode.names },
        uid: inode.owner.user,
        gid: inode.owner.group,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    })
}

fn entry(made: Result<FileAttr, Errno>, reply: ReplyEntry) {
    match made {
        Ok(attributes) => reply.entry(&TTL, &attributes, Generation(0)),
        Err(errno) => reply.error(errno),
    }
}

fn empty(done: Result<(), Errno>, reply: ReplyEmpty) {
    match done {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

/// Whether what is written by this handle is to be durable at once.
fn synchronous(flags: OpenFlags) -> bool {
    flags.0 & libc::O_DSYNC != 0
}

impl Filesystem for Server {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        // Shared mappings, where the kernel can: its answer is what there is.
        let _ = config.add_capabilities(InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP);
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.with(|volume| attributes(volume, volume.tree.lookup(parent.0, name)?));
        entry(found, reply);
    }

    fn getattr(&self, _request: &Request, inode: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        match self.with(|volume| attributes(volume, inode.0)) {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(errno) => reply.error(errno),
        }
    }

    fn setattr(
        &self,
        _request: &Request,
        inode: INodeNo,
        mode: Option<u32>,
        user: Option<u32>,
        group: Option<u32>,
        size: Option<u64>,
        accessed: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        _changed: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _created: Option<SystemTime>,
        _changed_by: Option<SystemTime>,
        _backed_up: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let done = self.with(|volume| {
            if let Some(size) = size {
                volume.truncate(inode.0, size)?;
            }
            if size.is_none() || mode.is_some() || user.is_some() || group.is_some() {
                volume.own(inode.0, |owner| {
                    owner.mode = mode.map_or(owner.mode, |mode| mode & 0o7777);
                    owner.user = user.unwrap_or(owner.user);
                    owner.group = group.unwrap_or(owner.group);
                })?;
            }
            let time = |time: TimeOrNow| match time {
                TimeOrNow::SpecificTime(time) => time,
                TimeOrNow::Now => SystemTime::now(),
            };
            let set = volume.tree.inode_mut(inode.0)?;
            set.accessed = accessed.map_or(set.accessed, time);
            set.modified = modified.map_or(set.modified, time);
            attributes(volume, inode.0)
        });
        match done {
            Ok(attributes) => reply.attr(&TTL, &attributes),
            Err(errno) => reply.error(errno),
        }
    }

    fn readlink(&self, _request: &Request, inode: INodeNo, reply: ReplyData) {
        let target = self.with(|volume| match &volume.tree.inode(inode.0)?.kind {
            Kind::Link(target) => Ok(target.clone()),
            _ => Err(nix::errno::Errno::EINVAL),
        });
        match target {
            Ok(target) => reply.data(target.as_os_str().as_bytes()),
            Err(errno) => reply.error(errno),
        }
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _device: u32,
        reply: ReplyEntry,
    ) {
        if mode & libc::S_IFMT != libc::S_IFREG {
            return reply.error(Errno::EPERM);
        }
        self.made(parent, name, Kind::File(Content::default()), owner(request, mode, umask), reply);
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        self.made(parent, name, Kind::Directory(Directory::default()), owner(request, mode, umask), reply);
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        self.made(parent, name, Kind::Link(target.to_path_buf()), owner(request, 0o777, 0), reply);
    }

    fn unlink(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.with(|volume| volume.unlink(parent.0, name, false)), reply);
    }

    fn rmdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.with(|volume| volume.unlink(parent.0, name, true)), reply);
    }

    fn rename(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if !(flags - RenameFlags::RENAME_NOREPLACE).is_empty() {
            return reply.error(Errno::EINVAL);
        }
        let keep = flags.contains(RenameFlags::RENAME_NOREPLACE);
        empty(self.with(|volume| volume.rename((parent.0, name), (new_parent.0, new_name), keep)), reply);
    }

    fn link(&self, _request: &Request, inode: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let linked = self.with(|volume| {
            volume.link(inode.0, parent.0, name)?;
            attributes(volume, inode.0)
        });
        entry(linked, reply);
    }

    fn open(&self, _request: &Request, inode: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let write = flags.acc_mode() != OpenAccMode::O_RDONLY;
        match self.with(|volume| volume.open_file(inode.0, write)) {
            Ok(handle) => reply.opened(FileHandle(handle), FopenFlags::FOPEN_DIRECT_IO),
            Err(errno) => reply.error(errno),
        }
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let made = self.with(|volume| {
            let inode = volume.make(parent.0, name, Kind::File(Content::default()), owner(request, mode, umask))?;
            let handle = volume.open_file(inode, true)?;
            Ok((attributes(volume, inode)?, handle))
        });
        match made {
            Ok((attributes, handle)) => {
                reply.created(&TTL, &attributes, Generation(0), FileHandle(handle), FopenFlags::FOPEN_DIRECT_IO);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn read(
        &self,
        _request: &Request,
        inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let work = |volume: &mut Volume| volume.read(inode.0, handle.0, offset, size.into());
        self.slowly(inode, work, |read| match read {
            Ok(data) => reply.data(&data),
            Err(errno) => reply.error(errno),
        });
    }

    fn write(
        &self,
        _request: &Request,
        inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _write: WriteFlags,
        flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let length = data.len() as u32;
        let work = |volume: &mut Volume| volume.write(inode.0, handle.0, offset, data, synchronous(flags));
        self.slowly(inode, work, move |written| match written {
            Ok(()) => reply.written(length),
            Err(errno) => reply.error(errno),
        });
    }

    fn flush(&self, _request: &Request, _inode: INodeNo, _handle: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _request: &Request,
        inode: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        empty(self.with(|volume| volume.close_file(inode.0, handle.0)), reply);
    }

    fn fsync(&self, _request: &Request, inode: INodeNo, handle: FileHandle, _data_only: bool, reply: ReplyEmpty) {
        self.slowly(inode, move |volume| volume.sync_file(inode.0, handle.0), |done| empty(done, reply));
    }

    fn fsyncdir(&self, _request: &Request, inode: INodeNo, _handle: FileHandle, _data_only: bool, reply: ReplyEmpty) {
        self.slowly(inode, move |volume| volume.sync_directory(inode.0), |done| empty(done, reply));
    }

    fn readdir(&self, _request: &Request, inode: INodeNo, _handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let listed = self.with(|volume| {
            let directory = volume.tree.directory(inode.0)?;
            let of = |inode: u64| match volume.tree.inodes.get(&inode).map(|inode| &inode.kind) {
                Some(Kind::Directory(_)) => FileType::Directory,
                Some(Kind::Link(_)) => FileType::Symlink,
                _ => FileType::RegularFile,
            };
            let own = [(OsStr::new("."), inode.0), (OsStr::new(".."), directory.parent)];
            let listed = directory.entries.iter().filter(|(name, _)| !is_own(name));
            let names = listed.map(|(name, inode)| (name.as_os_str(), *inode));
            for (next, (name, inode)) in (1_u64..).zip(own.into_iter().chain(names)).skip(offset as usize) {
                if reply.add(INodeNo(inode), next, of(inode), name) {
                    break;
                }
            }
            Ok(())
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn statfs(&self, _request: &Request, _inode: INodeNo, reply: ReplyStatfs) {
        let room = self.with(|volume| Ok((volume.tree.backing.room()?, volume.conditions.full)));
        match room {
            Ok((room, full)) => {
                let free = |blocks: u64| if full { 0 } else { blocks };
                reply.statfs(
                    room.blocks(),
                    free(room.blocks_free()),
                    free(room.blocks_available()),
                    room.files(),
                    room.files_free(),
                    room.block_size() as u32,
                    255,
                    room.fragment_size() as u32,
                );
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn fallocate(
        &self,
        _request: &Request,
        inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        if mode != 0 {
            return reply.error(Errno::EOPNOTSUPP);
        }
        let end = offset.saturating_add(length);
        empty(self.with(|volume| volume.allocate(inode.0, handle.0, end)), reply);
    }
}
