//! `duress clock`: skews the clocks of any running process, and tells what they are. Runs also use
//! it, as a process of its own, because whoever stops a process must be the only one that waits
//! for it.

mod keeper;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use duress_clock::{Change, Clock, ClockError, State, family, read};
use duress_plug::duration;

use crate::exit::Failure;

pub(crate) const EXAMPLES: &str = "\
Examples:
  duress clock 4711                         what the process is told, and how often it asked
  duress clock 4711 --jump=-500ms           set its wall clock back by half a second
  duress clock 4711 --rate 500ppm           its wall clock runs fast by 500 parts per million
  duress clock 4711 --rate 2x --clock realtime,monotonic --for 30s
  duress clock 4711 --strobe 200ms/10ms     200 ms ahead and back again, every 10 ms
  duress clock 4711 --tree --reset          the true time again, for it and its descendants

No restart, no LD_PRELOAD, any language; own children, or any process for root. Only what a process
reads is skewed, not its sleeps. A program that never asks the vDSO for the time shows 0 reads.";

#[derive(Debug, Args)]
pub(crate) struct ClockArgs {
    /// The process
    pub(crate) pid: i32,
    /// Which clocks
    #[arg(long = "clock", value_enum, value_delimiter = ',', default_value = "realtime")]
    pub(crate) clocks: Vec<Which>,
    /// Set them ahead, or back with a minus: --jump=-500ms
    #[arg(long, value_name = "DURATION", value_parser = signed, group = "change", allow_hyphen_values = true)]
    pub(crate) jump: Option<i64>,
    /// Let them run fast or slow: 500ppm, -200ppm, 2x
    #[arg(long, value_name = "RATE", value_parser = rate, group = "change", allow_hyphen_values = true)]
    pub(crate) rate: Option<f64>,
    /// Let them flip ahead by so much and back, every so long: 200ms/10ms
    #[arg(long, value_name = "BY/EVERY", value_parser = strobe, group = "change", allow_hyphen_values = true)]
    pub(crate) strobe: Option<(i64, Duration)>,
    /// Let them stand still
    #[arg(long, group = "change")]
    pub(crate) freeze: bool,
    /// Let them tell the true time again
    #[arg(long, group = "change")]
    pub(crate) reset: bool,
    /// Also all processes that descend from it
    #[arg(long)]
    pub(crate) tree: bool,
    /// Reset them after so long, or when this program ends, even if it is killed; meanwhile new
    /// descendants (with --tree) are skewed as well
    #[arg(long = "for", value_name = "DURATION", value_parser = duration::read)]
    pub(crate) lasts: Option<Duration>,
    /// This is the process that holds the clocks for another, as long as that one lives
    #[arg(long, hide = true, requires = "lasts")]
    pub(crate) kept: bool,
    /// Print the state as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Which {
    /// The wall clock
    Realtime,
    /// Never runs backwards
    Monotonic,
    /// As monotonic, and runs on while the machine sleeps
    Boottime,
}

impl From<Which> for Clock {
    fn from(which: Which) -> Clock {
        match which {
            Which::Realtime => Clock::Realtime,
            Which::Monotonic => Clock::Monotonic,
            Which::Boottime => Clock::Boottime,
        }
    }
}

/// Nanoseconds, with a sign.
fn signed(text: &str) -> Result<i64, String> {
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let duration = duration::read(rest)?;
    let nanos = i64::try_from(duration.as_nanos()).map_err(|_| "no clock is set by more than 30 years")?;
    Ok(sign * nanos)
}

/// Parts per million.
fn rate(text: &str) -> Result<f64, String> {
    let number = |text: &str| text.trim().parse::<f64>().map_err(|_| format!("{text:?} is not a number"));
    let ppm = match (text.strip_suffix("ppm"), text.strip_suffix('x')) {
        (Some(ppm), _) => number(ppm)?,
        (_, Some(times)) => (number(times)? - 1.0) * 1e6,
        _ => return Err("say ppm or x: 500ppm, 1.05x".into()),
    };
    Ok(ppm)
}

fn strobe(text: &str) -> Result<(i64, Duration), String> {
    let (by, every) = text.split_once('/').ok_or("say by how much and every how long: 200ms/10ms")?;
    Ok((signed(by)?, duration::read(every)?))
}

impl ClockArgs {
    fn change(&self) -> Option<Change> {
        if let Some(by) = self.jump {
            return Some(Change::Jump(by));
        }
        if let Some(ppm) = self.rate {
            return Some(Change::Rate(ppm));
        }
        if let Some((by, every)) = self.strobe {
            return Some(Change::Strobe { by, every });
        }
        match (self.freeze, self.reset) {
            (true, _) => Some(Change::Freeze),
            (_, true) => Some(Change::Reset),
            _ => None,
        }
    }

    fn changes(&self, change: Change) -> Vec<(Clock, Change)> {
        self.clocks.iter().map(|which| (Clock::from(*which), change)).collect()
    }

    fn processes(&self) -> Vec<i32> {
        if self.tree { family(self.pid) } else { vec![self.pid] }
    }
}

pub(crate) fn run(args: &ClockArgs) -> Result<ExitCode, Failure> {
    let Some(change) = args.change() else {
        if args.lasts.is_some() {
            return Err(Failure::Usage("--for needs a change: --jump, --rate, --strobe or --freeze".into()));
        }
        for pid in args.processes() {
            show(args, pid, &read(pid).map_err(failure)?);
        }
        return Ok(ExitCode::SUCCESS);
    };
    match args.lasts.filter(|_| change != Change::Reset) {
        Some(_) if !args.kept => keeper::employ(args),
        lasts => keeper::hold(args, change, lasts),
    }
}

fn failure(error: ClockError) -> Failure {
    match error {
        ClockError::Gone(_) | ClockError::Range(_) | ClockError::Backwards(..) => Failure::Usage(error.to_string()),
        other => Failure::infrastructure("can't skew the clocks", other),
    }
}

fn show(args: &ClockArgs, pid: i32, state: &State) {
    if args.json {
        let clock = |reading: &duress_clock::Reading| {
            let value = serde_json::json!({
                "skewed": reading.skewed,
                "ahead_ns": reading.ahead_ns,
                "rate_ppm": reading.rate_ppm,
                "reads": reading.reads,
            });
            (reading.clock.to_string(), value)
        };
        let clocks: serde_json::Map<String, serde_json::Value> = state.clocks.iter().map(clock).collect();
        say(&serde_json::json!({ "pid": pid, "replaced": state.replaced, "clocks": clocks }).to_string());
        return;
    }
    if !state.replaced {
        return say(&format!("process {pid}: true time"));
    }
    for reading in state.clocks.iter().filter(|reading| reading.skewed || reading.reads > 0) {
        let ahead = reading.ahead_ns as f64 / 1e6;
        say(&format!(
            "process {pid}: {} {:+.3} ms, {:+.1} ppm, read {} times",
            reading.clock, ahead, reading.rate_ppm, reading.reads
        ));
    }
}

/// Says something to whoever still listens: that nobody does must not keep a clock from its reset.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read() {
        assert_eq!(signed("-500ms"), Ok(-500_000_000));
        assert_eq!(signed("+2s"), Ok(2_000_000_000));
        assert!(signed("soon").is_err() && signed("300000y").is_err());
        assert_eq!(rate("500ppm"), Ok(500.0));
        assert_eq!(rate("2x"), Ok(1e6));
        assert!(rate("fast").is_err() && rate("5").is_err());
        assert_eq!(strobe("-200ms/10ms"), Ok((-200_000_000, Duration::from_millis(10))));
        assert!(strobe("200ms").is_err());
    }
}
