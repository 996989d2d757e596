//! The harness inside its sandbox: carries out the run of a run directory.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use duress_history::Phase;
use duress_run::Progress;
use indicatif::{ProgressBar, ProgressStyle};

use crate::args::InsideArgs;
use crate::exit::Failure;
use crate::rundir::RunDir;
use crate::{assemble, backends, conform, onlooker, options, run};

pub(crate) fn inside(args: &InsideArgs) -> Result<ExitCode, Failure> {
    let backend = backends::named(&args.world)
        .ok_or_else(|| Failure::Usage(format!("there is no back end named {:?}", args.world)))?;
    backend.prepare().map_err(|e| Failure::Infrastructure(e.to_string()))?;
    let directory = RunDir::open(&args.run)
        .map_err(|e| Failure::infrastructure(&format!("can't open {}", args.run.display()), e))?;
    log_to(&directory)?;
    let scenario = options::stored(&directory)?;
    let mut assembled = assemble::assemble(&scenario, directory.path())?;
    if directory.script().exists() {
        assembled.generator = conform::read(&directory.script())?.generator();
    }
    assembled.plan.capture = args.pcap.then(|| directory.capture());
    if args.stop_on_violation {
        assembled.plan.onlooker = Some(onlooker::registers());
    }
    let progress = Progress::default();
    let time = scenario.time;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::infrastructure("can't start the runtime", e))?;
    let ended = runtime.block_on(async {
        let (stop, stopped) = tokio::sync::watch::channel(false);
        tokio::spawn(async move {
            // A signal may have come before anybody listened.
            if backend.interrupted() {
                stop.send_replace(true);
            }
            while run::next_signal().await.is_ok() {
                stop.send_replace(true);
            }
        });
        let shown =
            (!args.quiet && std::io::stderr().is_terminal()).then(|| tokio::spawn(show(progress.clone(), time)));
        let run = duress_run::run(assembled.plan, backend, assembled.target, assembled.generator, progress, stopped);
        let ended = run.await;
        if let Some(shown) = shown {
            shown.abort();
            // Leave the line it was writing on.
            let _ = shown.await;
        }
        ended
    });
    let ended = ended.map_err(|e| Failure::infrastructure("the run failed", e))?;
    let text = serde_json::to_string_pretty(&ended).map_err(|e| Failure::infrastructure("can't write run.json", e))?;
    std::fs::write(directory.ended(), text + "\n").map_err(|e| Failure::infrastructure("can't write run.json", e))?;
    Ok(ExitCode::SUCCESS)
}

fn log_to(directory: &RunDir) -> Result<(), Failure> {
    let file = std::fs::File::options().create(true).append(true).open(directory.log());
    let file = file.map_err(|e| Failure::infrastructure("can't open duress.log", e))?;
    tracing_subscriber::fmt()
        .with_writer(std::sync::Mutex::new(file))
        .with_ansi(false)
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_env("DURESS_LOG").unwrap_or_else(|_| "info".into()))
        .init();
    Ok(())
}

/// Shows a run on a terminal: one line that lives, and a line for every fault that comes or goes.
async fn show(progress: Progress, time: Duration) {
    let bar = ProgressBar::new_spinner();
    bar.set_style(ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()));
    let guard = ClearOnDrop(bar.clone());
    let mut began = None;
    let mut faults: Vec<String> = Vec::new();
    let mut last = (tokio::time::Instant::now(), 0);
    let mut rate = 0.0;
    loop {
        let seen = progress.snapshot();
        if seen.phase == Some(Phase::Main) && began.is_none() {
            began = Some(tokio::time::Instant::now());
        }
        let elapsed = began.map_or(Duration::ZERO, |began| began.elapsed());
        for gone in faults.iter().filter(|fault| !seen.faults.contains(fault)) {
            bar.println(format!("{:>6.1}s  healed  {gone}", elapsed.as_secs_f64()));
        }
        for new in seen.faults.iter().filter(|fault| !faults.contains(fault)) {
            bar.println(format!("{:>6.1}s  FAULT   {new}", elapsed.as_secs_f64()));
        }
        faults = seen.faults;
        let total = seen.ok + seen.fail + seen.info;
        if last.0.elapsed() >= Duration::from_millis(500) {
            rate = (total - last.1) as f64 / last.0.elapsed().as_secs_f64();
            last = (tokio::time::Instant::now(), total);
        }
        let phase = match seen.phase {
            None => "deploying".to_string(),
            Some(Phase::Main) => format!("{:.1}s of {}s", elapsed.as_secs_f64(), time.as_secs_f64()),
            Some(Phase::Recovery) => "healed; waiting for every node to answer".into(),
            Some(Phase::Final) => "final reads".into(),
            Some(Phase::End) => "stopping".into(),
        };
        let in_force = if faults.is_empty() { "no fault".to_string() } else { faults.join("; ") };
        bar.set_message(format!(
            "{phase} | {} ok, {} failed, {} unknown, {rate:.0}/s | {in_force}",
            seen.ok, seen.fail, seen.info
        ));
        bar.tick();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let _ = &guard;
    }
}

/// Takes the living line away when the showing ends, however it ends.
struct ClearOnDrop(ProgressBar);

impl Drop for ClearOnDrop {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
