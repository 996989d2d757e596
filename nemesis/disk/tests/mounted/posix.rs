//! What programs may rely on when nothing is wrong, and what power losses leave.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use duress_disk::{Disk, Syncs};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use crate::model::{Image, Model};
use crate::{Mounted, sync};

#[derive(Clone, Debug)]
enum Step {
    Create(String),
    Mkdir(String),
    Link(String, String),
    Remove(String),
    Rename(String, String),
    Write(String, u16, Vec<u8>),
    Truncate(String, u16),
    Sync(String),
    Syncs(Syncs),
    PowerLoss,
}

fn step() -> impl Strategy<Value = Step> {
    // Few paths, so that steps meet.
    let path =
        || prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..4).prop_map(|names| names.join("/"));
    let syncs = prop::sample::select(vec![Syncs::Work, Syncs::Work, Syncs::Fail, Syncs::Lie]);
    let place = || prop_oneof![0..40_u16, 4000..4200_u16];
    prop_oneof![
        3 => path().prop_map(Step::Create),
        3 => path().prop_map(Step::Mkdir),
        1 => (path(), path()).prop_map(|(a, b)| Step::Link(a, b)),
        2 => path().prop_map(Step::Remove),
        4 => (path(), path()).prop_map(|(a, b)| Step::Rename(a, b)),
        6 => (path(), place(), prop::collection::vec(any::<u8>(), 0..30)).prop_map(|(a, at, data)| Step::Write(a, at, data)),
        2 => (path(), place()).prop_map(|(a, size)| Step::Truncate(a, size)),
        6 => prop_oneof![3 => path(), 1 => Just(String::new())].prop_map(Step::Sync),
        1 => syncs.prop_map(Step::Syncs),
        1 => Just(Step::PowerLoss),
    ]
}

/// Does a step by system calls. Whether it worked.
fn by_calls(root: &Path, disk: &Disk, step: &Step) -> bool {
    let open = |path: &str| OpenOptions::new().write(true).open(root.join(path));
    match step {
        Step::Create(path) => OpenOptions::new().write(true).create_new(true).open(root.join(path)).is_ok(),
        Step::Mkdir(path) => fs::create_dir(root.join(path)).is_ok(),
        Step::Link(from, to) => fs::hard_link(root.join(from), root.join(to)).is_ok(),
        Step::Remove(path) => {
            let path = root.join(path);
            if path.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) }.is_ok()
        }
        Step::Rename(from, to) => fs::rename(root.join(from), root.join(to)).is_ok(),
        Step::Write(path, at, data) => open(path).and_then(|file| file.write_all_at(data, u64::from(*at))).is_ok(),
        Step::Truncate(path, size) => open(path).and_then(|file| file.set_len(u64::from(*size))).is_ok(),
        Step::Sync(path) => File::open(root.join(path)).and_then(|file| file.sync_data()).is_ok(),
        Step::Syncs(syncs) => {
            disk.set(|conditions| conditions.syncs = *syncs);
            true
        }
        Step::PowerLoss => {
            disk.power_loss(None).unwrap();
            true
        }
    }
}

/// Does a step naively. Whether it worked.
fn by_model(model: &mut Model, syncs: &mut Syncs, step: &Step) -> bool {
    let done = match step {
        Step::Create(path) => model.create(path),
        Step::Mkdir(path) => model.mkdir(path),
        Step::Link(from, to) => model.link(from, to),
        Step::Remove(path) => model.remove(path),
        Step::Rename(from, to) => model.rename(from, to),
        Step::Write(path, _, data) if data.is_empty() => model.write(path, 0, &[]),
        Step::Write(path, at, data) => model.write(path, usize::from(*at), data),
        Step::Truncate(path, size) => model.truncate(path, usize::from(*size)),
        Step::Sync(path) => match *syncs {
            Syncs::Work => model.sync(path),
            Syncs::Lie => model.exists(path).then_some(()),
            Syncs::Fail => {
                model.fail_sync(path);
                None
            }
        },
        Step::Syncs(changed) => {
            *syncs = *changed;
            Some(())
        }
        Step::PowerLoss => {
            model.power_loss();
            Some(())
        }
    };
    done.is_some()
}

/// What is in a directory.
fn image(root: &Path) -> Image {
    let mut image = Image::new();
    let mut waiting = vec![(String::new(), root.join("."))];
    while let Some((name, path)) = waiting.pop() {
        for entry in fs::read_dir(&path).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{name}/{}", entry.file_name().to_str().unwrap());
            if entry.file_type().unwrap().is_dir() {
                image.insert(name.clone(), None);
                waiting.push((name, entry.path()));
            } else {
                image.insert(name, Some(fs::read(entry.path()).unwrap()));
            }
        }
    }
    image
}

/// Steps on the content of one file, whose name is durable.
fn content_step() -> impl Strategy<Value = Step> {
    let syncs = prop::sample::select(vec![Syncs::Work, Syncs::Work, Syncs::Fail, Syncs::Lie]);
    let data = || prop::collection::vec(1..=255_u8, 1..12);
    prop_oneof![
        8 => (0..40_u16, data()).prop_map(|(at, data)| Step::Write("a".into(), at, data)),
        2 => (0..50_u16).prop_map(|size| Step::Truncate("a".into(), size)),
        4 => Just(Step::Sync("a".into())),
        2 => syncs.prop_map(Step::Syncs),
        1 => Just(Step::PowerLoss),
    ]
}

/// Steps on the names in two directories that are durable.
fn name_step() -> impl Strategy<Value = Step> {
    let path = || prop::sample::select(vec!["c", "a/c", "a/d", "b/c", "b/d"]).prop_map(String::from);
    let directory = prop::sample::select(vec!["", "a", "b"]).prop_map(String::from);
    prop_oneof![
        2 => path().prop_map(Step::Create),
        1 => path().prop_map(Step::Mkdir),
        1 => path().prop_map(Step::Remove),
        1 => (path(), path()).prop_map(|(a, b)| Step::Link(a, b)),
        6 => (path(), path()).prop_map(|(a, b)| Step::Rename(a, b)),
        3 => directory.prop_map(Step::Sync),
        1 => Just(Step::PowerLoss),
    ]
}

pub(crate) fn calls_and_power_losses_do_as_the_naive_model() {
    as_the_model(100, &prop::collection::vec(step(), 0..60));
    let named = prop::collection::vec(content_step(), 0..40).prop_map(|steps| {
        let first = [Step::Create("a".into()), Step::Sync(String::new())];
        first.into_iter().chain(steps).collect()
    });
    as_the_model(100, &named);
    let inside = prop::collection::vec(name_step(), 0..40).prop_map(|steps| {
        let first = [Step::Mkdir("a".into()), Step::Mkdir("b".into()), Step::Sync(String::new())];
        first.into_iter().chain(steps).collect()
    });
    as_the_model(100, &inside);
}

fn as_the_model(cases: u32, steps: &impl Strategy<Value = Vec<Step>>) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let same = |what: &str, found: Image, wanted: Image| {
        if found == wanted {
            Ok(())
        } else {
            Err(TestCaseError::fail(format!("{what}: {found:?} instead of {wanted:?}")))
        }
    };
    let result = TestRunner::new(config).run(steps, |steps| {
        let Mounted { disk, root, under, _handle, _temporary } = Mounted::new();
        let (mut model, mut syncs) = (Model::new(), Syncs::Work);
        for (number, step) in steps.iter().enumerate() {
            let wanted = by_model(&mut model, &mut syncs, step);
            let found = by_calls(&root, &disk, step);
            if found != wanted {
                return Err(TestCaseError::fail(format!("step {number}, {step:?}: worked: {found}, wanted {wanted}")));
            }
            same(&format!("durable after step {number}"), image(&under), model.image(true))?;
            same(&format!("seen after step {number}"), image(&root), model.image(false))?;
        }
        disk.power_loss(None).unwrap();
        model.power_loss();
        same("seen after the last power loss", image(&root), model.image(false))?;
        disk.unmount().unwrap();
        same("left", image(&root), model.image(false))
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

pub(crate) fn what_was_there_is_durable_and_what_is_left_is_plain() {
    let temporary = tempfile::tempdir().unwrap();
    let root = temporary.path().join("data");
    fs::create_dir_all(root.join("deep/er")).unwrap();
    fs::write(root.join("deep/er/old"), "old").unwrap();
    std::os::unix::fs::symlink("deep/er", root.join("link")).unwrap();
    let disk = Disk::mount(&root).unwrap();
    assert_eq!(fs::read_to_string(root.join("link/old")).unwrap(), "old");
    fs::write(root.join("deep/new"), "new").unwrap();
    fs::write(root.join("link/old"), "older").unwrap();
    disk.power_loss(None).unwrap();
    assert_eq!(fs::read_to_string(root.join("link/old")).unwrap(), "old");
    assert!(!root.join("deep/new").exists());
    // Without a power loss, what was not synced is there as well at the end.
    fs::write(root.join("deep/new"), "newer").unwrap();
    disk.unmount().unwrap();
    assert_eq!(fs::read_to_string(root.join("deep/new")).unwrap(), "newer");
    assert_eq!(fs::read_link(root.join("link")).unwrap(), Path::new("deep/er"));
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 1, "only the directory itself is left");
}

pub(crate) fn files_are_locked_mapped_and_used_after_their_removal() {
    let mounted = Mounted::new();
    let path = mounted.path("file");
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(&path).unwrap();
    file.lock().unwrap();
    assert!(File::open(&path).unwrap().try_lock().is_err(), "a lock is a lock");
    file.write_all(b"hello, disk").unwrap();
    let length = std::num::NonZero::new(4096).unwrap();
    let (protection, flags) = (ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED);
    // SAFETY: a fresh mapping of a file of ours, used below and unmapped once.
    #[expect(unsafe_code, reason = "mappings are raw memory")]
    unsafe {
        let at = mmap(None, length, protection, flags, &file, 0).unwrap();
        at.cast::<u8>().write(b'J');
        munmap(at, 4096).unwrap();
    }
    file.sync_all().unwrap();
    fs::remove_file(&path).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "Jello, disk");
    // Its removal was not synced, nor had its name ever been: it is gone either way.
    mounted.disk.power_loss(None).unwrap();
    assert!(!path.exists());
    assert!(file.read_at(&mut [0], 0).is_err(), "fd {} outlived the power", file.as_raw_fd());
    // O_DSYNC needs no sync.
    use std::os::unix::fs::OpenOptionsExt;
    let path = mounted.durable("log", b"");
    let mut file = OpenOptions::new().write(true).custom_flags(libc::O_DSYNC).open(&path).unwrap();
    file.write_all(b"at once").unwrap();
    mounted.disk.power_loss(None).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"at once");
}

pub(crate) fn many_unsynced_bytes_are_written_back() {
    let mounted = Mounted::new();
    let path = mounted.durable("big", b"");
    let mut file = OpenOptions::new().write(true).open(&path).unwrap();
    let chunk = vec![7; 1 << 20];
    for _ in 0..80 {
        file.write_all(&chunk).unwrap();
    }
    let counters = mounted.disk.counters();
    assert!(counters.written_back >= 32 << 20, "{counters:?}");
    let lost = mounted.disk.power_loss(None).unwrap().bytes;
    let left = fs::metadata(&path).unwrap().len();
    assert_eq!(lost + left, 80 << 20);
    assert!(left >= 32 << 20, "{left}");
    sync(&path);
}
