//! The log under SIGKILL: a real process appends, rewrites and says what is durable, and is
//! killed at any moment.

mod support;

use std::io::{BufRead, BufReader};
use std::path::Path;

use duress_driver::log::Log;
use duress_seed::Seed;
use support::{Process, child};

/// Record `i` of a log whose records are consecutive numbers, with something of varying length.
type Record = (u64, Vec<u8>);

fn record(i: u64) -> Record {
    (i, vec![i as u8; (i * 37 % 500) as usize])
}

/// Appends for ever, when started as a child: goes on from what the log holds and prints each
/// number once it is durable. Now and then the log is cut down to its last records.
#[test]
fn child_writer() {
    let Some(directory) = child() else { return };
    let (mut log, recovered) = Log::open::<Record>(Path::new(&directory)).unwrap();
    let mut next = recovered.last().map_or(0, |(i, _)| i + 1);
    for round in 0_u64.. {
        for _ in 0..=round % 7 {
            log.append(&record(next)).unwrap();
            next += 1;
        }
        if round % 40 == 39 {
            log.rewrite(&[record(next - 2), record(next - 1)]).unwrap();
        } else {
            log.sync().unwrap();
        }
        println!("durable {}", next - 1);
    }
}

#[test]
fn nothing_durable_is_lost_to_sigkill() {
    let directory = tempfile::tempdir().unwrap();
    let mut durable = None;
    for life in 0..25 {
        let mut writer = Process::again("child_writer", directory.path().to_str().unwrap(), None);
        // Killed after some number of lines, at whatever it is doing just then.
        let lines = Seed(5).decide(&[life]).below(120);
        let mut said = BufReader::new(writer.0.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut hear = |line: String| {
            if let Some((_, number)) = line.split_once("durable ") {
                durable = durable.max(number.trim().parse::<u64>().ok());
            }
        };
        said.by_ref().take(5 + lines as usize).for_each(&mut hear);
        writer.kill();
        // What it said before it died counts, but for a last line cut short, which is whole or not a number's end.
        said.for_each(&mut hear);

        let (log, found) = Log::open::<Record>(directory.path()).unwrap();
        drop(log);
        let first = found.first().map_or(0, |(i, _)| *i);
        let expected: Vec<Record> = (first..first + found.len() as u64).map(record).collect();
        assert_eq!(found, expected, "life {life}");
        let last = found.last().map(|(i, _)| *i);
        assert!(last >= durable, "life {life}: {durable:?} was durable, {last:?} is the last");
    }
    assert!(durable > Some(500), "the writer wrote next to nothing: {durable:?}");
}
