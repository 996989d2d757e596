//! What each condition does to programs, and what the counters say of it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use duress_disk::{Conditions, Counters, Disk, Loss, Syncs};
use duress_seed::Seed;
use nix::sched::{CloneFlags, unshare};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use crate::{Mounted, sync};

/// With a directory, makes the program mount a disk over it and wait.
pub(crate) const SERVE: &str = "--serve";

fn failed<T: std::fmt::Debug>(result: io::Result<T>, wanted: i32) {
    assert_eq!(result.expect_err("the disk is broken").raw_os_error(), Some(wanted));
}

fn writable(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

pub(crate) fn a_torn_write_survives_in_whole_sectors() {
    let mut seen = [false; 2];
    for seed in 0..12 {
        let mounted = Mounted::new();
        let path = mounted.durable("file", &[1; 4000]);
        let file = writable(&path);
        file.write_all_at(&[2; 100], 0).unwrap();
        file.write_all_at(&[3; 3000], 700).unwrap();
        drop(file);
        let loss = mounted.disk.power_loss(Some(Seed(seed))).unwrap();
        let left = fs::read(&path).unwrap();
        assert_eq!(left.len(), 4000);
        assert_eq!(left[..700], [1; 700], "only the last write is torn");
        assert_eq!(left[3700..], [1; 300]);
        let torn = left.iter().filter(|byte| **byte == 3).count() as u64;
        assert!(0 < torn && torn < 3000, "{torn}");
        assert_eq!((loss.torn, loss.bytes), (torn, 3100 - torn));
        for sector in left[..3700].chunks(512).skip(2) {
            assert!(sector.iter().all(|byte| *byte == sector[0]), "a sector is whole");
        }
        // A write within one sector is whole or not there.
        writable(&path).write_all_at(&[4; 10], 600).unwrap();
        mounted.disk.power_loss(Some(Seed(seed))).unwrap();
        let kept = fs::read(&path).unwrap()[600..610].iter().filter(|byte| **byte == 4).count();
        assert!(kept == 0 || kept == 10, "{kept}");
        seen[usize::from(kept == 10)] = true;
    }
    assert_eq!(seen, [true; 2]);
}

pub(crate) fn power_losses_say_what_they_took() {
    let mounted = Mounted::new();
    let path = mounted.durable("kept", &[1; 10]);
    writable(&path).write_all_at(&[2; 7], 5).unwrap();
    fs::write(mounted.path("unnamed"), [3; 100]).unwrap();
    sync(&mounted.path("unnamed"));
    let loss = mounted.disk.power_loss(None).unwrap();
    assert_eq!(loss, Loss { bytes: 107, names: 1, torn: 0 });
    assert_eq!(fs::read(&path).unwrap(), [1; 10]);
    assert!(!mounted.path("unnamed").exists());
    assert_eq!(mounted.disk.power_loss(None).unwrap(), Loss::default());
    let Counters { power_losses: 2, bytes_lost: 107, names_lost: 1, .. } = mounted.disk.counters() else {
        panic!("{:?}", mounted.disk.counters());
    };
}

pub(crate) fn syncs_fail_and_are_not_tried_again() {
    let mounted = Mounted::new();
    let path = mounted.durable("file", b"before");
    let file = writable(&path);
    mounted.disk.set(|conditions| conditions.syncs = Syncs::Fail);
    file.write_all_at(b"after!", 0).unwrap();
    failed(file.sync_data(), libc::EIO);
    failed(File::open(&mounted.root).unwrap().sync_all(), libc::EIO);
    mounted.disk.set(|conditions| *conditions = Conditions::default());
    // Linux says yes now, and nothing has become durable.
    file.sync_data().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"after!");
    mounted.disk.power_loss(None).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"before");
    // What is written again is synced again.
    let file = writable(&path);
    file.write_all_at(b"after!", 0).unwrap();
    file.sync_data().unwrap();
    mounted.disk.power_loss(None).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"after!");
    assert_eq!(mounted.disk.counters().syncs_failed, 2);
    // What no sync ever made durable is there at the end all the same.
    let file = writable(&path);
    file.write_all_at(b"at end", 0).unwrap();
    mounted.disk.set(|conditions| conditions.syncs = Syncs::Fail);
    failed(file.sync_data(), libc::EIO);
    drop(file);
    mounted.disk.unmount().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"at end");
}

pub(crate) fn the_harness_s_own_files_leave_no_trace() {
    let mounted = Mounted::new();
    let probe = mounted.durable(".duress-probe", b"kept");
    let node = mounted.durable("file", &[1; 2000]);
    let before = mounted.disk.counters();
    writable(&node).write_all_at(&[2; 2000], 0).unwrap();
    writable(&probe).write_all_at(b"lost", 0).unwrap();
    assert_eq!(fs::read(&probe).unwrap(), b"lost");
    assert_eq!(mounted.disk.durable(Path::new(".duress-probe")).unwrap().unwrap(), b"kept");
    assert_eq!(mounted.disk.durable(Path::new("nothing")).unwrap(), None);
    let listed: Vec<_> = fs::read_dir(&mounted.root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(listed, ["file"]);
    // The latest write was the probe's, and yet it is the node's that is torn.
    let loss = mounted.disk.power_loss(Some(Seed(1))).unwrap();
    assert_eq!(loss.bytes + loss.torn, 2000);
    assert!(loss.torn > 0);
    assert_eq!(fs::read(&probe).unwrap(), b"kept");
    let after = mounted.disk.counters();
    assert_eq!((after.writes - before.writes, after.reads - before.reads), (1, 0));
    mounted.disk.unmount().unwrap();
    assert_eq!(fs::read_dir(&mounted.root).unwrap().count(), 1, "only the node's file is left");
}

pub(crate) fn syncs_lie() {
    let mounted = Mounted::new();
    let path = mounted.durable("file", b"before");
    mounted.disk.set(|conditions| conditions.syncs = Syncs::Lie);
    let new = mounted.durable("new", b"never");
    writable(&path).write_all_at(b"after!", 0).unwrap();
    sync(&path);
    assert_eq!(mounted.disk.counters().syncs_lied, 3);
    mounted.disk.power_loss(None).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"before");
    assert!(!new.exists());
}

pub(crate) fn a_full_disk_takes_no_more() {
    let mounted = Mounted::new();
    let path = mounted.durable("file", b"before");
    let file = writable(&path);
    mounted.disk.set(|conditions| conditions.full = true);
    failed(file.write_all_at(b"longer", 1), libc::ENOSPC);
    failed(file.set_len(7), libc::ENOSPC);
    failed(fs::write(mounted.path("new"), ""), libc::ENOSPC);
    failed(fs::create_dir(mounted.path("new")), libc::ENOSPC);
    file.write_all_at(b"after!", 0).unwrap();
    file.sync_all().unwrap();
    fs::rename(&path, mounted.path("renamed")).unwrap();
    let room = nix::sys::statvfs::statvfs(&mounted.root).unwrap();
    assert_eq!(room.blocks_available(), 0);
    assert_eq!(mounted.disk.counters().no_space, 4);
    mounted.disk.set(|conditions| conditions.full = false);
    file.write_all_at(b"longer", 1).unwrap();
    assert_eq!(fs::read(mounted.path("renamed")).unwrap(), b"alonger");
}

pub(crate) fn a_read_only_disk_changes_nothing() {
    let mounted = Mounted::new();
    let path = mounted.durable("file", b"before");
    let file = writable(&path);
    file.write_all_at(b"unsync", 0).unwrap();
    mounted.disk.set(|conditions| conditions.read_only = true);
    failed(file.write_all_at(b"x", 0), libc::EROFS);
    failed(file.sync_all(), libc::EROFS);
    failed(OpenOptions::new().write(true).open(&path), libc::EROFS);
    failed(fs::write(mounted.path("new"), ""), libc::EROFS);
    failed(fs::remove_file(&path), libc::EROFS);
    failed(File::open(&path).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH), libc::EROFS);
    failed(fs::rename(&path, mounted.path("new")), libc::EROFS);
    assert_eq!(fs::read(&path).unwrap(), b"unsync");
    assert_eq!(mounted.disk.counters().read_only, 7);
    mounted.disk.set(|conditions| conditions.read_only = false);
    file.sync_all().unwrap();
}

pub(crate) fn a_slow_disk_delays_each_call_and_not_the_others() {
    const SLOW: Duration = Duration::from_millis(60);
    let mounted = Mounted::new();
    let path = mounted.durable("file", b"before");
    let file = writable(&path);
    mounted.disk.set(|conditions| conditions.slow = SLOW);
    let started = Instant::now();
    file.write_all_at(b"after!", 0).unwrap();
    file.sync_data().unwrap();
    file.read_at(&mut [0; 6], 0).unwrap();
    assert!(started.elapsed() >= 3 * SLOW, "{:?}", started.elapsed());
    assert_eq!(mounted.disk.counters().slowed, 3);
    // Calls wait beside each other, and what is not of a file's content doesn't wait at all.
    let gate = std::sync::Barrier::new(9);
    let took: Vec<(Duration, Duration)> = std::thread::scope(|scope| {
        let reader = || {
            gate.wait();
            let started = Instant::now();
            fs::metadata(&path).unwrap();
            let looked = started.elapsed();
            file.read_at(&mut [0; 6], 0).unwrap();
            (looked, started.elapsed())
        };
        let readers: Vec<_> = (0..8).map(|_| scope.spawn(reader)).collect();
        gate.wait();
        readers.into_iter().map(|reader| reader.join().unwrap()).collect()
    });
    let all: Duration = took.iter().map(|(_, read)| *read).sum();
    let last = took.iter().map(|(_, read)| *read).max().unwrap();
    assert!(took.iter().all(|(_, read)| *read >= SLOW), "{took:?}");
    assert!(last < 8 * SLOW, "one after the other they would take {:?}: {all:?}", 8 * SLOW);
    mounted.disk.set(|conditions| conditions.slow = Duration::ZERO);
    file.sync_data().unwrap();
    assert_eq!(mounted.disk.counters().slowed, 11);
}

pub(crate) fn reads_fail_and_nothing_hides_it() {
    let mounted = Mounted::new();
    let path = mounted.durable("file", b"before");
    let file = writable(&path);
    assert_eq!(fs::read(&path).unwrap(), b"before");
    mounted.disk.set(|conditions| conditions.read_error = true);
    failed(file.read_at(&mut [0; 6], 0), libc::EIO);
    failed(fs::read(&path), libc::EIO);
    file.write_all_at(b"after!", 0).unwrap();
    failed(file.read_at(&mut [0; 6], 0), libc::EIO);
    assert!(mounted.disk.counters().reads_failed >= 3);
    mounted.disk.set(|conditions| conditions.read_error = false);
    assert_eq!(fs::read(&path).unwrap(), b"after!");
}

pub(crate) fn one_bit_of_real_data_flips_even_under_a_mapping() {
    for seed in 0..8 {
        let mounted = Mounted::new();
        mounted.durable(".duress-probe", &[9; 5000]);
        assert_eq!(mounted.disk.flip(Seed(seed)).unwrap(), None, "the harness's own files are spared");
        // Real data within many zeros.
        let mut data = vec![0; 300_000];
        data[170_000..170_100].fill(0xaa);
        let path = mounted.durable("file", &data);
        let file = writable(&path);
        let length = std::num::NonZero::new(data.len()).unwrap();
        // SAFETY: a fresh mapping of a file of ours, read below and unmapped once.
        #[expect(unsafe_code, reason = "mappings are raw memory")]
        let (at, mapped) = unsafe {
            let at = mmap(None, length, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, &file, 0).unwrap();
            (at, std::slice::from_raw_parts(at.cast::<u8>().as_ptr(), data.len()))
        };
        assert_eq!(mapped, data);
        let flip = mounted.disk.flip(Seed(seed)).unwrap().expect("there is data");
        assert_eq!((flip.path.as_path(), flip.before), (Path::new("file"), 0xaa));
        assert_eq!((flip.before ^ flip.after).count_ones(), 1);
        data[flip.offset as usize] = flip.after;
        assert_eq!(fs::read(&path).unwrap(), data);
        assert_eq!(mapped, data, "what the kernel had kept is flipped as well");
        // SAFETY: mapped above, and not used after this.
        #[expect(unsafe_code, reason = "mappings are raw memory")]
        unsafe {
            munmap(at, data.len()).unwrap();
        }
        drop(file);
        mounted.disk.power_loss(None).unwrap();
        assert_eq!(fs::read(&path).unwrap(), data, "it is durable");
        assert_eq!(mounted.disk.counters().bits_flipped, 1);
        assert!(mounted.disk.is_damaged());
        // It is mended, unless somebody has written there meanwhile.
        let overwritten = seed % 2 == 0;
        if overwritten {
            let file = writable(&path);
            file.write_all_at(&[flip.after], flip.offset).unwrap();
            file.sync_all().unwrap();
            assert!(!mounted.disk.is_damaged());
        } else {
            data[flip.offset as usize] = flip.before;
        }
        assert_eq!(mounted.disk.mend(&flip).unwrap(), !overwritten);
        assert_eq!(fs::read(&path).unwrap(), data);
        assert!(!mounted.disk.is_damaged());
    }
}

pub(crate) fn a_killed_server_leaves_only_what_is_durable() {
    let temporary = tempfile::tempdir().unwrap();
    let root = temporary.path().join("data");
    fs::create_dir(&root).unwrap();
    let mut server =
        Command::new(std::env::current_exe().unwrap()).arg(SERVE).arg(&root).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    let inside = Path::new("/proc").join(server.id().to_string()).join("root").join(root.strip_prefix("/").unwrap());
    assert_eq!(fs::read(inside.join("unsynced")).unwrap(), b"unsynced");
    let open = File::open(inside.join("synced")).unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(fs::read(root.join("synced")).unwrap(), b"synced");
    assert!(!root.join("unsynced").exists());
    let error = open.read_at(&mut [0], 0).expect_err("nobody serves it");
    assert_eq!(error.kind(), ErrorKind::NotConnected, "{error}");
    drop(open);
    // The next one starts with what was durable, and clears what the killed one left beside it.
    let disk = Disk::mount(&root).unwrap();
    assert_eq!(fs::read(root.join("synced")).unwrap(), b"synced");
    disk.unmount().unwrap();
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 1);
}

/// The server of the test above: mounts a disk in a namespace of its own, and waits to be killed.
pub(crate) fn serve(root: &Path) -> ExitCode {
    // The user namespace is that of the test, which could not look into another one's mounts.
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let disk = Disk::mount(root).unwrap();
    fs::write(root.join("synced"), "synced").unwrap();
    sync(&root.join("synced"));
    sync(root);
    fs::write(root.join("unsynced"), "unsynced").unwrap();
    println!("ready");
    io::stdout().flush().unwrap();
    // Far longer than the test, which kills this at once.
    std::thread::sleep(Duration::from_secs(60));
    drop(disk);
    ExitCode::FAILURE
}
