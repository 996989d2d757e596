//! `duress run`, as the user starts it: makes the run directory, has the back end start the harness,
//! waits for it, and judges what was recorded.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::Path;
use std::process::{ExitCode, ExitStatus};
use std::sync::Arc;

use duress_backend::{Backend, Inside};
use duress_scenario::Scenario;
use duress_seed::Seed;

use crate::args::RunArgs;
use crate::exit::{self, Failure};
use crate::rundir::RunDir;
use crate::{assemble, backends, judge, options};

pub(crate) fn run(args: &RunArgs) -> Result<ExitCode, Failure> {
    let asked = &args.asked;
    let scenario = options::scenario(asked, args.time.as_deref())?;
    if args.stop_on_violation && scenario.workload.kind() != "register" {
        return Err(Failure::Usage("--stop-on-violation follows registers: use --workload register".into()));
    }
    let backend = backend(&args.world)?;
    check(backend, &scenario)?;
    let directory = RunDir::create(&asked.out, &scenario.name)
        .map_err(|e| Failure::infrastructure(&format!("can't make a run directory in {}", asked.out.display()), e))?;
    std::fs::write(directory.scenario(), scenario.to_yaml())
        .map_err(|e| Failure::infrastructure(&format!("can't write {}", directory.scenario().display()), e))?;
    if !asked.json {
        announce(&scenario, directory.path(), args);
    }
    let how = How { quiet: asked.json, stop_on_violation: args.stop_on_violation, pcap: args.pcap };
    let judged = carry_out(backend, &directory, &scenario, how, |judged| judge::show(judged, &directory, asked.json))?;
    Ok(exit::of(judged.results.verdict))
}

/// The back end of a world that is no simulator.
pub(crate) fn backend(world: &str) -> Result<&'static dyn Backend, Failure> {
    backends::named(world).ok_or_else(|| Failure::Usage(format!("{world} is no world of real processes")))
}

/// Whether a back end has what the scenario's faults need. They are never left out, so it is said
/// before anything begins.
pub(crate) fn check(backend: &dyn Backend, scenario: &Scenario) -> Result<(), Failure> {
    let Some(seed) = scenario.seed else { return Ok(()) };
    let heal_first = assemble::heal_first(scenario).is_some();
    duress_run::check(backend, &scenario.schedule(Seed(seed)), heal_first)
        .map_err(|refusal| Failure::Infrastructure(refusal.to_string()))
}

/// How a run is carried out, apart from its scenario.
#[derive(Clone, Copy, Debug)]
pub(crate) struct How {
    /// Show nothing while it goes on.
    pub(crate) quiet: bool,
    /// End the main phase when a violation shows.
    pub(crate) stop_on_violation: bool,
    /// Capture every frame.
    pub(crate) pcap: bool,
}

impl How {
    /// To its end, without a word.
    pub(crate) const QUIET: How = How { quiet: true, stop_on_violation: false, pcap: false };
}

/// Carries out the run of a directory that holds its scenario, and judges it; `show` sees the
/// judgement even if the run was not carried out to its end.
pub(crate) fn carry_out(
    backend: &dyn Backend,
    directory: &RunDir,
    scenario: &Scenario,
    how: How,
    show: impl FnOnce(&judge::Judged),
) -> Result<judge::Judged, Failure> {
    let status = inside(backend, directory.path(), how)?;
    // A run that could not be carried out is judged all the same, for whoever looks into it.
    let judged = judge::judge(directory, scenario);
    if let Ok(judged) = &judged {
        show(judged);
    }
    if !status.success() {
        let log = directory.log();
        return Err(Failure::Infrastructure(format!(
            "the run could not be carried out (the harness ended with {status}); its log is {}",
            log.display()
        )));
    }
    judged
}

/// First words of a run: everything needed to ask for the same again.
fn announce(scenario: &Scenario, directory: &Path, args: &RunArgs) {
    println!("{}", options::describe(scenario));
    println!("kept in {}", directory.display());
    if args.pcap {
        println!("frames: {}", directory.join(RunDir::CAPTURE).display());
    }
    println!("again:  {}", options::again(scenario, args));
    println!();
}

/// Runs the harness where the back end has hosts, to its end.
fn inside(backend: &dyn Backend, directory: &Path, how: How) -> Result<ExitStatus, Failure> {
    let mut args: Vec<OsString> =
        vec!["inside".into(), "--run".into(), directory.into(), "--world".into(), backend.name().into()];
    if how.stop_on_violation {
        args.push("--stop-on-violation".into());
    }
    if how.pcap {
        args.push("--pcap".into());
    }
    if how.quiet || !std::io::stderr().is_terminal() {
        args.push("--quiet".into());
    }
    let inside = backend.enter(&args).map_err(|e| Failure::Infrastructure(e.to_string()))?;
    let inside: Arc<dyn Inside> = inside.into();
    pass_on_signals(inside.clone())?;
    inside.wait().map_err(|e| Failure::infrastructure("can't wait for the harness", e))
}

/// Ctrl-C and a polite kill stop the run, which then heals and ends properly; a second one ends it
/// at once.
fn pass_on_signals(inside: Arc<dyn Inside>) -> Result<(), Failure> {
    let failure = |e| Failure::infrastructure("can't handle signals", e);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failure)?;
    let signals = std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            let mut count = 0;
            while next_signal().await.is_ok() {
                count += 1;
                if count == 1 {
                    eprintln!("\nstopping: healing and ending the cluster; once more to kill it");
                    let _ = inside.interrupt();
                } else {
                    let _ = inside.kill();
                }
            }
        });
    });
    signals.map(drop).map_err(failure)
}

/// Waits for SIGINT, SIGTERM or SIGHUP.
pub(crate) async fn next_signal() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    Ok(())
}
