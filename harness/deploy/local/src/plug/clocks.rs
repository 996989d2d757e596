//! Clocks, skewed by the processes' vDSO.
//!
//! A process's clocks are skewed by a process of their own (`duress clock`): whoever stops a
//! process must be the only one that waits for it, and the harness waits for its children.

use std::process::Command;
use std::time::Duration;

use duress_backend::clocks::{Change, Clock, Clocks, Enough, State, Watch};
use duress_backend::{Error, ProcessId};
use duress_clock::ClockError;

use super::Here;

/// This same program.
const THIS_PROGRAM: &str = "/proc/self/exe";

impl Clocks for Here {
    fn skew(&self, _host: &str, process: ProcessId, changes: &[(Clock, Change)]) -> Result<(), Error> {
        // Once for all clocks with the same change, so that it is done at one moment.
        changes.chunk_by(|(_, one), (_, other)| one == other).try_for_each(|same| change(process, same))
    }

    fn read(&self, _host: &str, process: ProcessId) -> Result<State, Error> {
        duress_clock::read(number(process)?).map_err(told)
    }

    fn watch(&self, _host: &str, process: ProcessId, within: Duration, enough: &[Enough]) -> Result<Watch, Error> {
        duress_clock::watch(number(process)?, within, |seen| seen.shows(enough)).map_err(told)
    }
}

/// As the kernel knows it.
fn number(process: ProcessId) -> Result<i32, Error> {
    i32::try_from(process.0).map_err(|_| Error::gone(format!("there is no process {}", process.0)))
}

fn told(error: ClockError) -> Error {
    match error {
        ClockError::Gone(_) => Error::gone(error),
        other => Error::failed(other),
    }
}

fn change(process: ProcessId, same: &[(Clock, Change)]) -> Result<(), Error> {
    let Some((_, change)) = same.first() else { return Ok(()) };
    let change = match *change {
        Change::Jump(by) => format!("--jump={by}ns"),
        Change::Rate(ppm) => format!("--rate={ppm}ppm"),
        Change::Strobe { by, every } => format!("--strobe={by}ns/{}ns", every.as_nanos()),
        Change::Freeze => "--freeze".into(),
        Change::Reset => "--reset".into(),
    };
    let clocks: Vec<String> = same.iter().map(|(clock, _)| clock.to_string()).collect();
    let mut command = Command::new(THIS_PROGRAM);
    command.args(["clock", &process.0.to_string(), &change, &format!("--clock={}", clocks.join(","))]);
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(Error::failed(String::from_utf8_lossy(&output.stderr).trim())),
        Err(e) => Err(Error::failed(format!("can't run {THIS_PROGRAM} clock: {e}"))),
    }
}
