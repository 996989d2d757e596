//! Where a run is kept: `<out>/<scenario>/<time>/`, with a `latest` link beside it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The directory of one run.
#[derive(Clone, Debug)]
pub(crate) struct RunDir(PathBuf);

impl RunDir {
    /// Makes a new one, named after the present time in UTC.
    pub(crate) fn create(out: &Path, scenario: &str) -> io::Result<RunDir> {
        let parent = out.join(scenario);
        std::fs::create_dir_all(&parent)?;
        let parent = parent.canonicalize()?;
        let stamp = humantime::format_rfc3339_seconds(SystemTime::now()).to_string().replace(['-', ':'], "");
        for attempt in 0..1000 {
            let name = if attempt == 0 { stamp.clone() } else { format!("{stamp}-{attempt}") };
            let path = parent.join(&name);
            match std::fs::create_dir(&path) {
                Ok(()) => {
                    link_latest(&parent, &name)?;
                    return Ok(RunDir(path));
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e),
            }
        }
        Err(io::Error::other(format!("{} holds a thousand runs of this second", parent.display())))
    }

    /// One that is there already.
    pub(crate) fn open(path: &Path) -> io::Result<RunDir> {
        let path = path.canonicalize()?;
        if !path.is_dir() {
            return Err(io::Error::new(io::ErrorKind::NotADirectory, "not a run directory"));
        }
        Ok(RunDir(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The scenario as it was run, with every default.
    pub(crate) fn scenario(&self) -> PathBuf {
        self.0.join("scenario.yaml")
    }

    /// The script that is played, if one is.
    pub(crate) fn script(&self) -> PathBuf {
        self.0.join("run.script")
    }

    /// What happened.
    pub(crate) fn history(&self) -> PathBuf {
        self.0.join("history.jsonl")
    }

    /// How the run ended, apart from its history.
    pub(crate) fn ended(&self) -> PathBuf {
        self.0.join("run.json")
    }

    /// The verdict and its reasons.
    pub(crate) fn results(&self) -> PathBuf {
        self.0.join("results.json")
    }

    /// The name of the file with every frame, if they were captured.
    pub(crate) const CAPTURE: &str = "capture.pcapng";

    /// That file.
    pub(crate) fn capture(&self) -> PathBuf {
        self.0.join(RunDir::CAPTURE)
    }

    /// What the harness had to say.
    pub(crate) fn log(&self) -> PathBuf {
        self.0.join("duress.log")
    }
}

/// Points `latest` at a run, in one step: a reader sees the old link or the new one.
fn link_latest(parent: &Path, name: &str) -> io::Result<()> {
    let fresh = parent.join(format!(".latest-{}", std::process::id()));
    match std::fs::remove_file(&fresh) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    std::os::unix::fs::symlink(name, &fresh)?;
    std::fs::rename(&fresh, parent.join("latest"))
}
