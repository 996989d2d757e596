//! What a disk of ours costs: small synced appends, as a node's log makes them, and large reads,
//! on it and on the plain directory beside it. The plain one really syncs, ours only pretends to
//! be a disk; `/dev/shm` is the plain one without that.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;

use criterion::{Criterion, Throughput};
use duress_disk::Disk;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

fn main() {
    let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).expect("user and mount namespaces can be made");
    for (path, text) in
        [("setgroups", "deny".to_owned()), ("uid_map", format!("0 {uid} 1")), ("gid_map", format!("0 {gid} 1"))]
    {
        fs::write(Path::new("/proc/self").join(path), text).expect("our own users can be mapped");
    }
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .expect("mounts of our own namespace can be made private");
    let plain = tempfile::tempdir_in(".").expect("there is room");
    let memory = tempfile::tempdir_in("/dev/shm").expect("there is shared memory");
    let below = tempfile::tempdir_in(".").expect("there is room");
    let over = below.path().join("data");
    fs::create_dir(&over).expect("a fresh directory takes a name");
    let disk = Disk::mount(&over).expect("a disk can be mounted");
    let mut criterion = Criterion::default().configure_from_args();
    for (name, directory) in [("plain", plain.path()), ("memory", memory.path()), ("ours", disk.directory())] {
        appends(&mut criterion, name, directory);
        reads(&mut criterion, name, directory);
    }
    disk.unmount().expect("the disk can be unmounted");
    criterion.final_summary();
}

/// 200 bytes written into room made ahead, and synced.
fn appends(criterion: &mut Criterion, name: &str, directory: &Path) {
    const ROOM: u64 = 8 << 20;
    let path = directory.join("log");
    let mut file = OpenOptions::new().write(true).create_new(true).open(&path).expect("the name is free");
    file.write_all(&vec![0; ROOM as usize]).and_then(|()| file.sync_all()).expect("there is room");
    let mut at = 0;
    criterion.bench_function(&format!("write and sync/{name}"), |bencher| {
        bencher.iter(|| {
            file.write_all_at(&[1; 200], at % (ROOM - 200)).and_then(|()| file.sync_data()).expect("the disk works");
            at += 200;
        });
    });
}

/// A file of 8 MiB read whole.
fn reads(criterion: &mut Criterion, name: &str, directory: &Path) {
    let path = directory.join("log");
    let mut group = criterion.benchmark_group("read");
    group.throughput(Throughput::Bytes(8 << 20));
    group.bench_function(name, |bencher| bencher.iter(|| fs::read(&path).expect("the disk works").len()));
}
