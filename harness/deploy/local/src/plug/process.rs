//! Processes, and what is done to them.

use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use duress_backend::{Error, Exit, Knocked, ProcessId, ProcessState, Resource, Slowness, Watched};

use crate::Process;

/// How long a connection is waited for, to be made and to be taken in.
const KNOCK_PATIENCE: Duration = Duration::from_millis(100);

impl duress_backend::Process for Process {
    fn id(&self) -> ProcessId {
        ProcessId(self.pid().into())
    }

    fn take_control(&self) -> Option<UnixStream> {
        Process::take_control(self)
    }

    fn kill(&self) -> Result<(), Error> {
        Ok(Process::kill(self)?)
    }

    fn wait(&self, within: Duration) -> Result<Option<Exit>, Error> {
        Ok(Process::wait(self, within)?.map(Exit::from))
    }

    fn state(&self) -> ProcessState {
        Process::state(self)
    }

    fn cpu_time(&self) -> Duration {
        Process::cpu_time(self)
    }

    fn pause(&self) -> Result<(), Error> {
        Ok(Process::pause(self)?)
    }

    fn resume(&self) -> Result<(), Error> {
        Ok(Process::resume(self)?)
    }

    fn slow(&self, slowness: Option<Slowness>) -> Result<(), Error> {
        Ok(Process::slow(self, slowness)?)
    }

    fn watch(&self, duration: Duration) -> Watched {
        Process::watch(self, duration)
    }

    fn used(&self, resource: Resource) -> Result<u64, Error> {
        Ok(Process::used(self, resource)?)
    }

    fn limit(&self, resource: Resource) -> Result<u64, Error> {
        Ok(Process::limit(self, resource)?)
    }

    fn limit_with_spare(&self, resource: Resource, spare: u64) -> Result<u64, Error> {
        Ok(Process::limit_with_spare(self, resource, spare)?)
    }

    fn set_limit(&self, resource: Resource, limit: Option<u64>) -> Result<(), Error> {
        Ok(Process::set_limit(self, resource, limit)?)
    }

    fn knock(&self, often: u32) -> Result<Knocked, Error> {
        let used = || Process::used(self, Resource::Descriptors).ok();
        let address = self.listening().ok().and_then(|found| found.last().copied());
        let (Some(address), Some(before)) = (address, used()) else {
            return Err(Error::failed(format!("{} listens nowhere", self.host())));
        };
        let connect = || TcpStream::connect_timeout(&address.into(), KNOCK_PATIENCE);
        let knock = || (0..often).map(|_| connect()).collect::<std::io::Result<Vec<_>>>();
        let connections = self.namespace().run(knock)?.map_err(Error::failed)?;
        // What is taken in is so at once, or not before others are closed.
        let deadline = Instant::now() + KNOCK_PATIENCE;
        let mut taken = 0;
        while taken < u64::from(often) && Instant::now() < deadline {
            thread::sleep(KNOCK_PATIENCE / 50);
            taken = taken.max(used().unwrap_or(before).saturating_sub(before));
        }
        drop(connections);
        Ok(Knocked { tried: often, waiting: often.saturating_sub(taken as u32) })
    }
}
