//! `duress convert`: a history from one format into another, with an account of what that loses.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use duress_history::formats::{Format, Loss, losses, write};

use crate::check::input::{Input, Named, Reading};
use crate::exit::Failure;

pub(crate) const EXAMPLES: &str = "\
Examples:
  duress convert store/latest/history.edn h.json        the format is told by the name's ending
  duress convert jepsen.log h.edn --lossy               leave out what EDN's conventions can't say
  duress convert run/history.jsonl - --to edn           one of Duress's own runs, to standard output

What the other format can't say is listed. If a verdict might change by it, nothing is written
unless --lossy is given.";

#[derive(Debug, Args)]
pub(crate) struct ConvertArgs {
    /// A history, a run directory, a Jepsen store directory, or - for standard input
    #[arg(value_name = "IN")]
    from: PathBuf,
    /// The file to be written, or - for standard output
    #[arg(value_name = "OUT")]
    out: PathBuf,
    /// The format to be written: jsonl, json, edn, jepsen-log, history-text or porcupine [default:
    /// by OUT's ending]
    #[arg(long, value_name = "FORMAT", value_parser = crate::check::input::format)]
    to: Option<Named<Option<Format>>>,
    #[command(flatten)]
    reading: Reading,
    /// Write even if a verdict on the result may differ
    #[arg(long)]
    lossy: bool,
}

pub(crate) fn convert(args: &ConvertArgs) -> Result<ExitCode, Failure> {
    let to = match args.to {
        Some(Named(Some(format))) => format,
        Some(Named(None)) | None => by_name(&args.out)?,
    };
    let read = Input::find(&args.from)?.read(&args.reading)?;
    let lost = losses(&read.history, to);
    let grave: Vec<&Loss> = lost.iter().filter(|loss| loss.grave).collect();
    for loss in &lost {
        eprintln!("duress: {} can't say {}: {}{}", to.name(), loss.what, loss.count, line(loss));
    }
    if !grave.is_empty() && !args.lossy {
        return Err(Failure::Usage(format!(
            "nothing was written: a verdict on it might differ from one on {}; --lossy writes it all the same",
            read.name
        )));
    }
    let failed = |e| Failure::infrastructure(&format!("can't write {}", args.out.display()), e);
    let mut out = open(&args.out)?;
    write(&read.history, to, &mut out).map_err(failed)?;
    out.flush().map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}

fn line(loss: &Loss) -> String {
    match loss.line {
        0 => String::new(),
        line => format!(", the first at line {line}"),
    }
}

/// Opens a file to be written, or standard output.
pub(crate) fn open(path: &Path) -> Result<Box<dyn Write>, Failure> {
    if path == Path::new("-") {
        return Ok(Box::new(BufWriter::new(std::io::stdout().lock())));
    }
    let file =
        File::create(path).map_err(|e| Failure::infrastructure(&format!("can't write {}", path.display()), e))?;
    Ok(Box::new(BufWriter::with_capacity(1 << 20, file)))
}

/// The format that a name's ending means.
pub(crate) fn by_name(path: &Path) -> Result<Format, Failure> {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    match ending {
        "edn" => Ok(Format::Edn),
        "json" => Ok(Format::Json),
        "jsonl" => Ok(Format::JsonLines),
        "log" => Ok(Format::JepsenLog),
        "txt" => Ok(Format::HistoryText),
        _ => Err(Failure::Usage(format!("{} doesn't tell its format by its ending; --to does", path.display()))),
    }
}
