//! The disk where it works: mounted, and used by system calls.
//!
//! Mounting takes namespaces that only a process with one thread can enter, so this has a main of
//! its own in place of libtest's. It needs user namespaces and /dev/fuse; without them it says so
//! and passes, unless `CI` is set, where it fails.

mod faults;
mod model;
mod posix;

use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use duress_disk::Disk;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

const TESTS: &[(&str, fn())] = &[
    ("calls_and_power_losses_do_as_the_naive_model", posix::calls_and_power_losses_do_as_the_naive_model),
    ("what_was_there_is_durable_and_what_is_left_is_plain", posix::what_was_there_is_durable_and_what_is_left_is_plain),
    (
        "files_are_locked_mapped_and_used_after_their_removal",
        posix::files_are_locked_mapped_and_used_after_their_removal,
    ),
    ("many_unsynced_bytes_are_written_back", posix::many_unsynced_bytes_are_written_back),
    ("a_torn_write_survives_in_whole_sectors", faults::a_torn_write_survives_in_whole_sectors),
    ("power_losses_say_what_they_took", faults::power_losses_say_what_they_took),
    ("syncs_fail_and_are_not_tried_again", faults::syncs_fail_and_are_not_tried_again),
    ("syncs_lie", faults::syncs_lie),
    ("the_harness_s_own_files_leave_no_trace", faults::the_harness_s_own_files_leave_no_trace),
    ("a_full_disk_takes_no_more", faults::a_full_disk_takes_no_more),
    ("a_read_only_disk_changes_nothing", faults::a_read_only_disk_changes_nothing),
    ("a_slow_disk_delays_each_call_and_not_the_others", faults::a_slow_disk_delays_each_call_and_not_the_others),
    ("reads_fail_and_nothing_hides_it", faults::reads_fail_and_nothing_hides_it),
    ("one_bit_of_real_data_flips_even_under_a_mapping", faults::one_bit_of_real_data_flips_even_under_a_mapping),
    ("a_killed_server_leaves_only_what_is_durable", faults::a_killed_server_leaves_only_what_is_durable),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, directory] = arguments.as_slice()
        && mode == faults::SERVE
    {
        return faults::serve(Path::new(directory));
    }
    duress_trials::run(TESTS, || {
        duress_disk::device().map_err(|error| error.to_string())?;
        enter_namespaces()
    })
}

/// Puts the process, which must have one thread, into user and mount namespaces of its own.
fn enter_namespaces() -> Result<(), String> {
    let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
        .map_err(|error| format!("can't make user and mount namespaces: {error}"))?;
    let write =
        |path: &str, text: String| fs::write(path, text).map_err(|error| format!("can't write {path}: {error}"));
    write("/proc/self/setgroups", "deny".to_owned())?;
    write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .map_err(|error| format!("can't make mounts private: {error}"))
}

/// A disk over an empty directory, and a way round it to what is durable.
struct Mounted {
    disk: Disk,
    root: PathBuf,
    /// The directory under the mount.
    under: PathBuf,
    _handle: fs::File,
    _temporary: tempfile::TempDir,
}

impl Mounted {
    fn new() -> Mounted {
        let temporary = tempfile::tempdir().unwrap();
        let root = temporary.path().join("data");
        fs::create_dir(&root).unwrap();
        let handle = fs::File::open(&root).unwrap();
        let under = PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd()));
        let disk = Disk::mount(&root).unwrap();
        Mounted { disk, root, under, _handle: handle, _temporary: temporary }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Makes a file that is durable, name and all.
    fn durable(&self, name: &str, data: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, data).unwrap();
        sync(&path);
        sync(&self.root);
        path
    }
}

/// Syncs a file or a directory.
fn sync(path: &Path) {
    fs::File::open(path).and_then(|file| file.sync_all()).unwrap();
}
