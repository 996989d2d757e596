//! What happens inside a run, step by step, and how it is shown: an event log, and a message
//! sequence chart in text.

use std::fmt::Write;

use duress_history::{Host, Time};

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// When.
    pub at: Time,
    /// What.
    pub what: What,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A message is on its way.
    Sent {
        /// From whom.
        from: Host,
        /// To whom.
        to: Host,
        /// What it says.
        message: String,
    },
    /// A message arrives.
    Received {
        /// From whom.
        from: Host,
        /// To whom.
        to: Host,
        /// What it says.
        message: String,
    },
    /// Messages are lost.
    Lost {
        /// From whom.
        from: Host,
        /// To whom.
        to: Host,
        /// How many.
        messages: usize,
    },
    /// Something happens at one node.
    At {
        /// Where.
        node: Host,
        /// What.
        what: String,
    },
    /// Something of the history: an operation, a fault, a phase.
    Noted(String),
}

/// One line about a step.
pub fn line(step: &Step) -> String {
    let at = format!("{:>10.6}", step.at.seconds());
    match &step.what {
        What::Sent { from, to, message } => format!("{at}  {from} -> {to}  sends {message}"),
        What::Received { from, to, message } => format!("{at}  {to} <- {from}  gets {message}"),
        What::Lost { from, to, messages: 1 } => format!("{at}  {from} -x {to}  a message is lost"),
        What::Lost { from, to, messages } => format!("{at}  {from} -x {to}  {messages} messages are lost"),
        What::At { node, what } => format!("{at}  {node}  {what}"),
        What::Noted(what) => format!("{at}  ** {what}"),
    }
}

/// How wide a column of the chart is.
const COLUMN: usize = 12;
/// What is written beside an arrow is cut after this many characters.
const LABEL: usize = 60;

/// A chart with a column for each of these nodes; time runs downwards. Messages are drawn where
/// they arrive, or where they are lost.
pub fn chart(nodes: &[Host], steps: &[Step]) -> String {
    draw(nodes, "seconds", steps.iter().map(|step| (format!("{:.6}", step.at.seconds()), &step.what)))
}

/// The same of steps that have an order but no times: they are numbered from 1.
pub fn numbered(nodes: &[Host], steps: &[What]) -> String {
    draw(nodes, "step", steps.iter().enumerate().map(|(at, what)| ((at + 1).to_string(), what)))
}

fn draw<'a>(nodes: &[Host], head: &str, steps: impl Iterator<Item = (String, &'a What)>) -> String {
    let mut text = format!("{head:>10}  ");
    for node in nodes {
        let _ = write!(text, "{node:^COLUMN$}");
    }
    text.push('\n');
    let column = |host: &Host| nodes.iter().position(|node| node == host);
    for (at, what) in steps {
        let (row, label) = match what {
            What::Sent { .. } => continue,
            What::Received { from, to, message } => {
                (arrow(nodes.len(), column(from), column(to), '>'), message.clone())
            }
            What::Lost { from, to, messages } => {
                (arrow(nodes.len(), column(from), column(to), 'x'), format!("{messages} lost"))
            }
            What::At { node, what } => (mark(nodes.len(), column(node)), what.clone()),
            What::Noted(what) => (rails(nodes.len()), format!("** {what}")),
        };
        let row: String = row.into_iter().collect();
        let label: String = label.chars().take(LABEL).collect();
        let _ = writeln!(text, "{at:>10}  {row} {label}");
    }
    text
}

fn middle(column: usize) -> usize {
    column * COLUMN + COLUMN / 2
}

fn rails(nodes: usize) -> Vec<char> {
    let mut row = vec![' '; nodes * COLUMN];
    for node in 0..nodes {
        row[middle(node)] = '|';
    }
    row
}

fn mark(nodes: usize, at: Option<usize>) -> Vec<char> {
    let mut row = rails(nodes);
    if let Some(at) = at {
        row[middle(at)] = '*';
    }
    row
}

fn arrow(nodes: usize, from: Option<usize>, to: Option<usize>, head: char) -> Vec<char> {
    let mut row = rails(nodes);
    let (Some(from), Some(to)) = (from, to) else { return row };
    let (start, end) = (middle(from), middle(to));
    let head = match head {
        '>' if end < start => '<',
        other => other,
    };
    let (low, high) = (start.min(end), start.max(end));
    for cell in &mut row[low + 1..high.max(low + 1)] {
        if *cell == ' ' {
            *cell = '-';
        }
    }
    match end.cmp(&start) {
        std::cmp::Ordering::Greater => row[end - 1] = head,
        std::cmp::Ordering::Less => row[end + 1] = head,
        std::cmp::Ordering::Equal => row[end] = '@',
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrows_go_from_column_to_column() {
        let nodes: Vec<Host> = vec!["n1".into(), "n2".into(), "n3".into()];
        let step = |what| Step { at: Time(1_500_000), what };
        let received = |from: &str, to: &str| What::Received { from: from.into(), to: to.into(), message: "hi".into() };
        let steps = [
            step(received("n1", "n3")),
            step(received("n3", "n2")),
            step(What::Lost { from: "n1".into(), to: "n2".into(), messages: 2 }),
            step(What::At { node: "n2".into(), what: "crashes".into() }),
        ];
        let chart = chart(&nodes, &steps);
        let lines: Vec<&str> = chart.lines().collect();
        assert_eq!(lines[0], "   seconds       n1          n2          n3     ");
        assert_eq!(lines[1], "  0.001500        |-----------|---------->|      hi");
        assert_eq!(lines[2], "  0.001500        |           |<----------|      hi");
        assert_eq!(lines[3], "  0.001500        |----------x|           |      2 lost");
        assert_eq!(lines[4], "  0.001500        |           *           |      crashes");
    }
}
