//! Operations drawn as overlapping intervals. Knows nothing of why they are shown.

use duress_history::Time;

/// One line of a timeline.
pub(super) struct Row {
    /// Who, where, and what.
    pub(super) cells: Vec<String>,
    /// When it began: position in the history, and time.
    pub(super) invoked: (u64, Time),
    /// When it ended; `None` if nobody knows.
    pub(super) completed: Option<(u64, Time)>,
}

/// Draws rows under headings. Columns of the chart stand for the moments at which something began
/// or ended, in order: what overlaps in the chart overlapped in time, but widths mean nothing.
/// Times count from `origin`, the time of the first row's beginning.
pub(super) fn draw(headings: &[&str], rows: &[Row]) -> Vec<String> {
    let origin = rows.iter().map(|row| row.invoked.1).min().unwrap_or_default();
    let mut moments: Vec<u64> =
        rows.iter().flat_map(|row| [Some(row.invoked.0), row.completed.map(|c| c.0)]).flatten().collect();
    moments.sort_unstable();
    moments.dedup();
    // Wide enough to see, narrow enough for a terminal.
    let step = (48 / moments.len().max(1)).clamp(1, 4);
    let column = |moment: u64| moments.partition_point(|m| *m < moment) * step;
    let width = moments.len().saturating_sub(1) * step + 1;

    let relative = |time: Time| {
        let millis = time.duration().saturating_sub(origin.duration()).as_secs_f64() * 1e3;
        format!("{millis:+.1}")
    };
    let mut table: Vec<Vec<String>> = Vec::new();
    let mut heading: Vec<String> = headings.iter().map(ToString::to_string).collect();
    heading.extend(["from ms".into(), "to ms".into()]);
    table.push(heading);
    for row in rows {
        let mut cells = row.cells.clone();
        cells.push(relative(row.invoked.1));
        cells.push(row.completed.map_or("?".into(), |(_, time)| relative(time)));
        table.push(cells);
    }
    let columns = table[0].len();
    let widths: Vec<usize> = (0..columns)
        .map(|c| table.iter().filter_map(|r| r.get(c)).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    let mut lines = Vec::new();
    for (at, cells) in table.iter().enumerate() {
        let mut line = String::from("  ");
        for (cell, width) in cells.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width + 2 - cell.chars().count()));
        }
        if let Some(row) = at.checked_sub(1).and_then(|at| rows.get(at)) {
            line.push_str(&bar(column(row.invoked.0), row.completed.map(|c| column(c.0)), width));
        }
        lines.push(line.trim_end().to_string());
    }
    lines
}

/// `|-----|`, or `|----…` for an interval without a known end.
fn bar(from: usize, to: Option<usize>, width: usize) -> String {
    let mut bar = " ".repeat(from);
    bar.push('|');
    match to {
        Some(to) => {
            bar.push_str(&"-".repeat(to.saturating_sub(from + 1)));
            bar.push('|');
        }
        None => {
            bar.push_str(&"-".repeat(width.saturating_sub(from + 1)));
            bar.push('?');
        }
    }
    bar
}
