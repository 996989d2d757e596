//! Disks as FUSE file systems, and the system calls that show what is wrong with them.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use duress_backend::Error;
use duress_backend::disks::{Calls, Conditions, Counters, Disk, Disks, Flip, Loss};
use duress_disk::OWN_PREFIX;
use duress_seed::Seed;

use super::Here;

/// The bytes that a probe writes over each other.
const PROBE: usize = 512;

impl Disks for Here {
    fn mount(&self, _host: &str, directory: &Path) -> Result<Arc<dyn Disk>, Error> {
        fs::create_dir_all(directory).map_err(Error::failed)?;
        let disk = Mounted(duress_disk::Disk::mount(directory).map_err(Error::failed)?);
        disk.prepare().map_err(Error::failed)?;
        Ok(Arc::new(disk))
    }
}

#[derive(Debug)]
struct Mounted(duress_disk::Disk);

impl Mounted {
    /// The file that probes use. Programs don't see it.
    fn own_file(&self) -> PathBuf {
        self.0.directory().join(own_name())
    }

    /// Makes that file, before anything is wrong.
    fn prepare(&self) -> io::Result<()> {
        fs::write(self.own_file(), fresh())?;
        File::open(self.own_file())?.sync_all()?;
        File::open(self.0.directory())?.sync_all()
    }
}

fn own_name() -> String {
    format!("{OWN_PREFIX}-probe")
}

/// Bytes that no probe has written before.
fn fresh() -> Vec<u8> {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    NUMBER.fetch_add(1, Ordering::Relaxed).to_le_bytes().repeat(PROBE / 8)
}

impl Disk for Mounted {
    fn set(&self, conditions: Conditions) {
        self.0.set(|now| *now = conditions);
    }

    fn counters(&self) -> Counters {
        self.0.counters()
    }

    fn is_damaged(&self) -> bool {
        self.0.is_damaged()
    }

    fn power_loss(&self, torn: Option<Seed>) -> Result<Loss, Error> {
        self.0.power_loss(torn).map_err(Error::failed)
    }

    fn flip(&self, seed: Seed) -> Result<Option<Flip>, Error> {
        self.0.flip(seed).map_err(Error::failed)
    }

    fn mend(&self, flip: &Flip) -> Result<bool, Error> {
        self.0.mend(flip).map_err(Error::failed)
    }

    fn plant(&self) -> Result<Vec<u8>, Error> {
        if let Ok(file) = OpenOptions::new().write(true).open(self.own_file()) {
            // What can't be written or synced now is a fault's doing, and not what is looked for here.
            let _ = file.write_all_at(&fresh(), 0).and_then(|()| file.sync_data());
            let _ = file.write_all_at(&fresh(), 0);
        }
        Ok(self.0.durable(Path::new(&own_name())).map_err(Error::failed)?.unwrap_or_default())
    }

    fn planted(&self) -> Result<Vec<u8>, Error> {
        fs::read(self.own_file()).map_err(Error::failed)
    }

    fn byte(&self, path: &Path, offset: u64) -> Result<u8, Error> {
        let mut byte = [0];
        let file = File::open(self.0.directory().join(path)).map_err(Error::failed)?;
        file.read_exact_at(&mut byte, offset).map_err(Error::failed)?;
        Ok(byte[0])
    }

    fn probe(&self) -> Calls {
        let path = self.own_file();
        let mut quickest = Duration::MAX;
        let mut timed = |call: &mut dyn FnMut() -> io::Result<()>| {
            let began = Instant::now();
            let result = call();
            quickest = quickest.min(began.elapsed());
            result.map_err(|error| error.raw_os_error().unwrap_or_default())
        };
        let written = fresh();
        let open = || OpenOptions::new().write(true).open(&path);
        let (write, sync, grow) = match open() {
            Ok(file) => {
                let write = timed(&mut || file.write_all_at(&written, 0));
                let sync = timed(&mut || file.sync_data());
                let grow = timed(&mut || file.write_all_at(b"more", PROBE as u64));
                let _ = file.set_len(PROBE as u64);
                (write, sync, grow)
            }
            Err(error) => {
                let error = Err(error.raw_os_error().unwrap_or_default());
                (error, Ok(()), error)
            }
        };
        let durable = self.0.durable(Path::new(&own_name()));
        let durable = durable.is_ok_and(|bytes| bytes.is_some_and(|b| b.starts_with(&written)));
        let read = match File::open(&path) {
            Ok(file) => timed(&mut || file.read_exact_at(&mut [0; PROBE], 0)),
            Err(error) => Err(error.raw_os_error().unwrap_or_default()),
        };
        Calls { write, sync, durable, read, grow, quickest }
    }

    fn unmount(&self) -> Result<(), Error> {
        self.0.unmount().map_err(Error::failed)
    }
}
