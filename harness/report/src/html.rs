//! A judged history as one page that needs nothing else: no scripts, no fonts, no network.

use std::fmt::Write;

use duress_checkers::{Report, Table, Verdict};
use duress_history::Outcome;

use crate::checked::Checked;
use crate::timeline::{Row, Timeline};

/// Measures of the picture, in pixels.
const LANE: usize = 34;
const LABEL: usize = 150;
const MIN_STEP: usize = 14;
const WIDTH: usize = 1000;

const STYLE: &str = "\
:root { color-scheme: light dark; --ok: #2a7d4f; --fail: #8a8a8a; --info: #b8860b; --bad: #b3261e; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.3rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.verdict { padding: .6rem 1rem; border-left: 6px solid; }
.valid { border-color: var(--ok); } .invalid { border-color: var(--bad); } .unknown { border-color: var(--info); }
table { border-collapse: collapse; margin: .5rem 0; } th, td { text-align: left; padding: .15rem .8rem .15rem 0; vertical-align: top; }
th { border-bottom: 1px solid #8888; font-weight: 600; }
pre { overflow-x: auto; padding: .6rem; background: #8881; }
.picture { overflow-x: auto; } svg text { font: 12px system-ui, sans-serif; fill: currentColor; }
svg .lane { stroke: #8885; } svg rect { rx: 3; } svg .ok { fill: var(--ok); } svg .fail { fill: var(--fail); } svg .info { fill: var(--info); }
svg .words { fill: #fff; pointer-events: none; }
";

/// The whole page.
pub fn page(checked: &Checked<'_>) -> String {
    let verdict = checked.results.verdict;
    let mut page = String::new();
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{verdict}: {name}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<h1>{name}</h1>\n\
         <p class=\"verdict {verdict}\">{words}</p>\n",
        name = Escaped(checked.name),
        words = Escaped(&checked.verdict()),
    );
    page.push_str("<table>\n");
    for (what, words) in checked.facts() {
        let _ = writeln!(page, "<tr><th>{}</th><td>{}</td></tr>", Escaped(what), Escaped(&words));
    }
    page.push_str("</table>\n");
    for report in &checked.results.reports {
        section(&mut page, checked, report);
    }
    page.push_str("</body>\n</html>\n");
    page
}

fn section(page: &mut String, checked: &Checked<'_>, report: &Report) {
    let verdict = report.verdict;
    let _ = writeln!(page, "<h2>{}: {verdict}</h2>\n<p>{}</p>", Escaped(&report.checker), Escaped(&report.summary));
    if !report.core.is_empty() {
        let timeline = Timeline::new(checked.history, &report.core);
        let mut keys: Vec<&str> = timeline.rows.iter().map(|row| row.key.as_str()).collect();
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            let rows: Vec<&Row> = timeline.rows.iter().filter(|row| row.key == key).collect();
            if !key.is_empty() {
                let _ = writeln!(page, "<h3>key {}</h3>", Escaped(key));
            }
            picture(page, &rows, timeline.columns);
        }
        if timeline.left_out > 0 {
            let _ = writeln!(page, "<p>{} operations before these are not shown.</p>", timeline.left_out);
        }
        operations(page, &timeline);
    }
    if !report.explanation.is_empty() {
        let _ = writeln!(page, "<pre>{}</pre>", Escaped(&report.explanation.join("\n")));
    }
    report.tables.iter().for_each(|table| self::table(page, table));
    if !report.figures.is_empty() {
        page.push_str("<table>\n");
        for (name, value) in &report.figures {
            let _ = writeln!(page, "<tr><th>{}</th><td>{value}</td></tr>", Escaped(name));
        }
        page.push_str("</table>\n");
    }
    if verdict == Verdict::Valid {
        page.push_str("<p>Nothing to show: an order exists.</p>\n");
    }
}

/// A lane for each process, a bar for each operation. What overlaps in the picture overlapped in
/// time; widths mean nothing.
fn picture(page: &mut String, rows: &[&Row], columns: usize) {
    let mut processes: Vec<u64> = rows.iter().map(|row| row.process).collect();
    processes.sort_unstable();
    processes.dedup();
    let step = (WIDTH / columns.max(1)).clamp(MIN_STEP, 120);
    let (width, height) = (LABEL + columns.max(1) * step + 10, processes.len() * LANE + 8);
    let _ = writeln!(
        page,
        "<div class=\"picture\"><svg width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" role=\"img\">"
    );
    for (lane, process) in processes.iter().enumerate() {
        let middle = lane * LANE + LANE / 2 + 4;
        let _ = writeln!(
            page,
            "<line class=\"lane\" x1=\"{LABEL}\" x2=\"{width}\" y1=\"{middle}\" y2=\"{middle}\"/>\
             <text x=\"4\" y=\"{}\">process {process}</text>",
            middle + 4
        );
    }
    for row in rows {
        let lane = processes.binary_search(&row.process).unwrap_or_default();
        let (from, to) = (row.columns.0, row.columns.1.unwrap_or(columns));
        let (x, y) = (LABEL + from * step, lane * LANE + 8);
        let length = (to.saturating_sub(from) * step).saturating_sub(4).max(8);
        let class = class(row.outcome);
        let room = length / 7;
        let words: String = row.words.chars().take(room).collect();
        let _ = writeln!(
            page,
            "<g><title>{}</title><rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{length}\" height=\"{}\"/>\
             <text class=\"words\" x=\"{}\" y=\"{}\">{}</text></g>",
            Escaped(&hover(row)),
            LANE - 8,
            x + 4,
            y + 17,
            Escaped(&words)
        );
    }
    page.push_str("</svg></div>\n");
}

fn class(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Ok => "ok",
        Outcome::Fail => "fail",
        Outcome::Info => "info",
    }
}

fn hover(row: &Row) -> String {
    let end = row.lines.1.map_or("never".to_string(), |line| format!("line {line}"));
    let ms = |ns: Option<i64>| ns.map_or(String::new(), |ns| format!(" ({:.3} ms)", ns as f64 / 1e6));
    format!(
        "process {}: {}\nasked at line {}{}, answered {end}{}",
        row.process,
        row.words,
        row.lines.0,
        ms(row.times_ns.0),
        ms(row.times_ns.1)
    )
}

fn operations(page: &mut String, timeline: &Timeline) {
    page.push_str("<table>\n<tr><th>line</th><th>process</th><th>key</th><th>operation</th><th>answered</th></tr>\n");
    for row in &timeline.rows {
        let end = row.lines.1.map_or("never".to_string(), |line| format!("line {line}"));
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{end}</td></tr>",
            row.lines.0,
            row.process,
            Escaped(&row.key),
            Escaped(&row.words)
        );
    }
    page.push_str("</table>\n");
}

fn table(page: &mut String, table: &Table) {
    let _ = writeln!(page, "<h3>{}</h3>\n<table>", Escaped(&table.title));
    let mut row = |cells: &[String], tag: &str| {
        page.push_str("<tr>");
        for cell in cells {
            let _ = write!(page, "<{tag}>{}</{tag}>", Escaped(cell));
        }
        page.push_str("</tr>\n");
    };
    row(&table.columns, "th");
    table.rows.iter().for_each(|cells| row(cells, "td"));
    page.push_str("</table>\n");
}

/// Text that can't become anything else in a page.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '\n' => f.write_str("\n")?,
                c if c.is_control() => f.write_str("\u{fffd}")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use duress_checkers::{Budget, Results};
    use duress_history::formats::{Options, read};

    #[test]
    fn a_page_holds_what_is_needed_and_nothing_from_outside() {
        let text = "{:process 0, :type :invoke, :f :write, :value \"<script>alert('&')</script>\"}\n\
                    {:process 1, :type :invoke, :f :read, :value nil}\n\
                    {:process 1, :type :ok, :f :read, :value 7}\n";
        let history = read(text.as_bytes(), &Options::default()).unwrap();
        let mut report = Report::invalid("register", "A read saw <7>.");
        report.core = vec![0, 1];
        let results = Results::of(vec![report]);
        let checked = Checked {
            name: "a<b>.edn",
            bytes: None,
            history: &history,
            read: Duration::from_millis(1),
            judgements: &[],
            budget: Budget::default(),
            results: &results,
        };
        let page = page(&checked);
        assert!(!page.contains("<script") && !page.contains("<7>") && !page.contains("<b>"), "{page}");
        assert!(page.contains("&lt;script&gt;") && page.contains("A read saw &lt;7&gt;."), "{page}");
        for outside in ["http", "src=", "href=", "url(", "@import"] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert_eq!(page.matches("<rect").count(), 2);
        // Every element that is opened is closed.
        for tag in ["table", "tr", "svg", "div", "g", "pre", "p", "h1", "h2", "html", "body", "title", "style"] {
            let opened = page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
            assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
        }
        let told = checked.text(true, crate::terminal::Options::default());
        assert!(told.contains("read → 7") && told.contains("|---|"), "{told}");
        assert_eq!(checked.json()["cores"][0][1]["completed_line"], 3);
    }
}
