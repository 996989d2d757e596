//! Histories as they are named on the command line: run directories, files, Jepsen's stores,
//! standard input.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use duress_history::formats::{Failed, Format, Imported, Keys, NilRead, Options, read_from};

use crate::exit::Failure;
use crate::rundir::RunDir;

/// How a history is to be read.
#[derive(Debug, Args)]
pub(crate) struct Reading {
    /// How it is written: auto, jsonl, json, edn, jepsen-log, history-text, porcupine; maelstrom,
    /// knossos and elle stand for what those tools write
    #[arg(long, value_name = "FORMAT", default_value = "auto", value_parser = format)]
    format: Named<Option<Format>>,
    /// What a read of nil tells: unset, or unknown [default: by the format]
    #[arg(long, value_name = "MEANING", value_parser = nil_read)]
    nil_read: Option<NilRead>,
    /// What a failed operation tells: drop (nothing), or assert (a cas saw another value) [default:
    /// by the format]
    #[arg(long, value_name = "MEANING", value_parser = failed)]
    failed: Option<Failed>,
    /// Whether values are [key value] tuples: auto, single, or independent
    #[arg(long, value_name = "KEYS", default_value = "auto", value_parser = keys)]
    keys: Keys,
    /// The longest text that is read, decompressed, such as 512MiB
    #[arg(long, value_name = "SIZE", default_value = "4GiB", value_parser = size)]
    max_bytes: u64,
}

/// A value that was parsed from one of its names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Named<T>(pub(crate) T);

pub(crate) fn format(name: &str) -> Result<Named<Option<Format>>, String> {
    match name {
        // Their formats are told apart by the text.
        "auto" | "maelstrom" | "elle" | "jepsen" => Ok(Named(None)),
        "knossos" => Ok(Named(Some(Format::Edn))),
        _ => Format::named(name).map(|format| Named(Some(format))).ok_or_else(|| {
            let names: Vec<&str> = Format::ALL.into_iter().map(Format::name).collect();
            format!("there are auto, {}, jepsen, maelstrom, knossos and elle", names.join(", "))
        }),
    }
}

fn nil_read(name: &str) -> Result<NilRead, String> {
    match name {
        "unset" => Ok(NilRead::Unset),
        "unknown" => Ok(NilRead::Unknown),
        _ => Err("it is unset or unknown".to_string()),
    }
}

fn failed(name: &str) -> Result<Failed, String> {
    match name {
        "drop" => Ok(Failed::Drop),
        "assert" => Ok(Failed::Assert),
        _ => Err("it is drop or assert".to_string()),
    }
}

fn keys(name: &str) -> Result<Keys, String> {
    match name {
        "auto" => Ok(Keys::Auto),
        "single" => Ok(Keys::Single),
        "independent" => Ok(Keys::Independent),
        _ => Err("it is auto, single or independent".to_string()),
    }
}

/// A number of bytes: `4096`, `64KiB`, `1.5GiB`, `2G`.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1u64,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        _ => return Err("units are B, KiB, MiB and GiB".to_string()),
    };
    match digits.trim().parse::<f64>() {
        Ok(number) if number.is_finite() && number >= 0.0 => Ok((number * factor as f64) as u64),
        _ => Err("that is no number of bytes".to_string()),
    }
}

/// Where a history is.
#[derive(Debug)]
pub(crate) enum Input {
    /// A run of ours.
    Run(RunDir),
    /// A file.
    File(PathBuf),
    /// Standard input.
    Standard,
}

/// A history that was read.
#[derive(Debug)]
pub(crate) struct ReadHistory {
    pub(crate) name: String,
    pub(crate) history: Imported,
    /// How long the file is.
    pub(crate) bytes: Option<u64>,
    pub(crate) took: Duration,
}

/// What a Jepsen store's directory may hold, best first, each perhaps compressed.
const STORED: [&str; 4] = ["history.edn", "history.json", "history.txt", "jepsen.log"];

impl Input {
    /// Finds what a path names.
    pub(crate) fn find(path: &Path) -> Result<Input, Failure> {
        if path == Path::new("-") {
            return Ok(Input::Standard);
        }
        let kind =
            std::fs::metadata(path).map_err(|e| Failure::Usage(format!("can't read {}: {e}", path.display())))?;
        if !kind.is_dir() {
            return Ok(Input::File(path.to_path_buf()));
        }
        for directory in [path.to_path_buf(), path.join("latest"), path.join("current")] {
            let run = RunDir::open(&directory).ok().filter(|run| run.scenario().is_file() && run.history().is_file());
            if let Some(run) = run {
                return Ok(Input::Run(run));
            }
            for name in STORED {
                for ending in ["", ".gz", ".zst"] {
                    let file = directory.join(format!("{name}{ending}"));
                    if file.is_file() {
                        return Ok(Input::File(file));
                    }
                }
            }
        }
        Err(Failure::Usage(format!(
            "{} is neither a run directory (no scenario.yaml and history.jsonl) nor a Jepsen store (no {})",
            path.display(),
            STORED.join(", ")
        )))
    }

    /// Reads the history.
    pub(crate) fn read(&self, reading: &Reading) -> Result<ReadHistory, Failure> {
        let options = Options {
            format: reading.format.0,
            nil_read: reading.nil_read,
            failed: reading.failed,
            keys: reading.keys,
            max_bytes: reading.max_bytes,
        };
        let Opened { name, bytes, from } = match self {
            Input::Standard => {
                Opened { name: "standard input".to_string(), bytes: None, from: Box::new(std::io::stdin().lock()) }
            }
            Input::File(path) => open(path)?,
            Input::Run(run) => open(&run.history())?,
        };
        let start = Instant::now();
        let history = read_from(from, &options).map_err(|error| match error.line {
            0 => Failure::Usage(format!("{name}: {}", error.message)),
            _ => Failure::Usage(format!("{name}:{}:{}: {}", error.line, error.column, error.message)),
        })?;
        Ok(ReadHistory { name, history, bytes, took: start.elapsed() })
    }
}

/// A history that is about to be read.
struct Opened {
    name: String,
    bytes: Option<u64>,
    from: Box<dyn Read>,
}

fn open(path: &Path) -> Result<Opened, Failure> {
    let name = path.display().to_string();
    let file = File::open(path).map_err(|e| Failure::Usage(format!("can't read {name}: {e}")))?;
    // A pipe has no length.
    let bytes = file.metadata().ok().map(|metadata| metadata.len()).filter(|length| *length > 0);
    Ok(Opened { name, bytes, from: Box::new(file) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in
            [("4096", 4096), ("64KiB", 64 << 10), ("1.5GiB", 3 << 29), ("2g", 2 << 30), ("10 MiB", 10 << 20)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "GiB", "-1", "1TiB", "nan", "1e999"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
