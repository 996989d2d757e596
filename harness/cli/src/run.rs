//! `duress run`, outside the sandbox: makes the run directory, starts the harness in its sandbox,
//! waits for it, and judges what was recorded.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::Path;
use std::process::{ExitCode, ExitStatus};
use std::sync::Arc;

use duress_deploy::sandbox::{self, SandboxProcess};
use duress_fault::Fault;
use duress_scenario::Scenario;
use duress_seed::Seed;

use crate::args::RunArgs;
use crate::exit::{self, Failure};
use crate::rundir::RunDir;
use crate::{judge, options};

pub(crate) fn run(args: &RunArgs) -> Result<ExitCode, Failure> {
    let asked = &args.asked;
    let scenario = options::scenario(asked, args.time.as_deref())?;
    if args.stop_on_violation && scenario.workload.kind() != "register" {
        return Err(Failure::Usage("--stop-on-violation follows registers: use --workload register".into()));
    }
    check_disks(&scenario)?;
    let directory = RunDir::create(&asked.out, &scenario.name)
        .map_err(|e| Failure::infrastructure(&format!("can't make a run directory in {}", asked.out.display()), e))?;
    std::fs::write(directory.scenario(), scenario.to_yaml())
        .map_err(|e| Failure::infrastructure(&format!("can't write {}", directory.scenario().display()), e))?;
    if !asked.json {
        announce(&scenario, directory.path(), args);
    }
    let how = How { quiet: asked.json, stop_on_violation: args.stop_on_violation, pcap: args.pcap };
    let judged = carry_out(&directory, &scenario, how, |judged| judge::show(judged, &directory, asked.json))?;
    Ok(exit::of(judged.results.verdict))
}

/// Faults of disks need file systems of ours, which not every machine allows. They are never left
/// out.
pub(crate) fn check_disks(scenario: &Scenario) -> Result<(), Failure> {
    let Some(seed) = scenario.seed else { return Ok(()) };
    let schedule = scenario.schedule(Seed(seed));
    let faults = schedule.faults().iter().map(|timed| &timed.fault);
    let needs = faults.filter(|fault| matches!(fault, Fault::Hosts { harm, .. } if harm.needs_disk()));
    let kinds: BTreeSet<&str> = needs.map(|fault| fault.kind().name()).collect();
    if kinds.is_empty() {
        return Ok(());
    }
    duress_deploy::preflight().fuse().map_err(|why| {
        let kinds = kinds.into_iter().collect::<Vec<_>>().join(", ");
        Failure::Infrastructure(format!("this scenario's faults of disks ({kinds}) need FUSE file systems: {why}"))
    })
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
    directory: &RunDir,
    scenario: &Scenario,
    how: How,
    show: impl FnOnce(&judge::Judged),
) -> Result<judge::Judged, Failure> {
    let status = in_sandbox(directory.path(), how)?;
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

/// Runs the harness inside its sandbox, to its end.
fn in_sandbox(directory: &Path, how: How) -> Result<ExitStatus, Failure> {
    let mut args: Vec<OsString> = vec!["inside".into(), "--run".into(), directory.into()];
    if how.stop_on_violation {
        args.push("--stop-on-violation".into());
    }
    if how.pcap {
        args.push("--pcap".into());
    }
    if how.quiet || !std::io::stderr().is_terminal() {
        args.push("--quiet".into());
    }
    let sandbox = sandbox::enter(&args).map_err(|e| {
        let preflight = duress_deploy::preflight();
        let advice = if preflight.ok() { String::new() } else { format!("\n\n{preflight}") };
        Failure::Infrastructure(format!("can't enter a sandbox: {e}{advice}"))
    })?;
    let sandbox = Arc::new(sandbox);
    pass_on_signals(sandbox.clone())?;
    sandbox.wait().map_err(|e| Failure::infrastructure("can't wait for the sandbox", e))
}

/// Ctrl-C and a polite kill stop the run, which then heals and ends properly; a second one ends it
/// at once.
fn pass_on_signals(sandbox: Arc<SandboxProcess>) -> Result<(), Failure> {
    let failure = |e| Failure::infrastructure("can't handle signals", e);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failure)?;
    let signals = std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            let mut count = 0;
            while next_signal().await.is_ok() {
                count += 1;
                if count == 1 {
                    eprintln!("\nstopping: healing and ending the cluster; once more to kill it");
                    let _ = sandbox.interrupt();
                } else {
                    let _ = sandbox.kill();
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
