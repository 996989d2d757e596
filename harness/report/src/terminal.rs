//! A run's results as text, for a terminal or a pipe.

use std::fmt::Write;

use duress_checkers::{Class, Report, Results, Table, Verdict};
use tabled::builder::Builder;
use tabled::settings::Style;

/// How the text is to look.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Use colours: only where somebody looks at a terminal.
    pub colour: bool,
}

/// A line of facts about the run: what, and how much.
pub type Fact = (String, String);

/// The whole summary: tables, checkers, the story behind whatever is not valid, the verdict in
/// words.
pub fn summary(results: &Results, facts: &[Fact], options: Options) -> String {
    let mut text = String::new();
    for table in results.reports.iter().flat_map(|report| &report.tables) {
        push_table(&mut text, table);
    }
    for (what, how_much) in facts {
        let _ = writeln!(text, "{what:<22} {how_much}");
    }
    if !facts.is_empty() {
        text.push('\n');
    }
    for report in &results.reports {
        let word = paint(report.verdict, &format!("{:<8}", report.verdict.to_string()), options);
        let _ = writeln!(text, "{word} {:<17} {}", report.checker, report.summary);
    }
    for report in results.reports.iter().filter(|report| !report.explanation.is_empty()) {
        push_explanation(&mut text, report, options);
    }
    text.push('\n');
    text.push_str(&verdict(results, options));
    text.push('\n');
    text
}

pub(crate) fn push_table(text: &mut String, table: &Table) {
    if table.rows.is_empty() {
        return;
    }
    let mut builder = Builder::default();
    builder.push_record(&table.columns);
    for row in &table.rows {
        builder.push_record(row);
    }
    let _ = writeln!(text, "{}\n{}\n", table.title, builder.build().with(Style::sharp()));
}

fn push_explanation(text: &mut String, report: &Report, options: Options) {
    let heading = match report.verdict {
        Verdict::Valid => format!("{}, remarks", report.checker),
        other => format!("{}: {other}", report.checker),
    };
    let _ = writeln!(text, "\n{}", paint(report.verdict, &heading, options));
    for line in &report.explanation {
        let _ = writeln!(text, "  {line}");
    }
}

/// The verdict in one line: what it is, and whose summary says why.
pub fn verdict(results: &Results, options: Options) -> String {
    let reasons: Vec<_> =
        results.reports.iter().filter(|report| report.verdict == results.verdict).map(|r| r.summary.as_str()).collect();
    let words = match (results.verdict, results.class) {
        (Verdict::Valid, _) => "VALID: no promise was broken, and every fault was proven to have happened.".to_string(),
        (Verdict::Invalid, _) => format!("INVALID: {}", reasons.join(" ")),
        (Verdict::Unknown, Some(Class::Unavailable)) => {
            format!("UNKNOWN (the target did not serve): {}", reasons.join(" "))
        }
        (Verdict::Unknown, Some(Class::Infrastructure)) => {
            format!("UNKNOWN (the harness failed, which says nothing of the target): {}", reasons.join(" "))
        }
        (Verdict::Unknown, _) => format!("UNKNOWN: {}", reasons.join(" ")),
    };
    paint(results.verdict, &words, options)
}

pub(crate) fn paint(verdict: Verdict, words: &str, options: Options) -> String {
    if !options.colour {
        return words.to_string();
    }
    let code = match verdict {
        Verdict::Valid => 32,
        Verdict::Unknown => 33,
        Verdict::Invalid => 31,
    };
    format!("\x1b[{code}m{words}\x1b[0m")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_says_what_is_wrong_and_ends_with_the_verdict() {
        let mut bad = Report::invalid("split-brain", "Two nodes led.");
        bad.explanation.push("n1 and n2 both acknowledged writes.".into());
        let mut good = Report::valid("stats", "12 operations.");
        good.tables.push(Table {
            title: "Operations".into(),
            columns: vec!["f".into(), "ok".into()],
            rows: vec![vec!["read".into(), "12".into()]],
        });
        let results = Results::of(vec![good, bad]);
        let text = summary(&results, &[("nodes".into(), "2".into())], Options::default());
        insta::assert_snapshot!(text, @r"
        Operations
        ┌──────┬────┐
        │ f    │ ok │
        ├──────┼────┤
        │ read │ 12 │
        └──────┴────┘

        nodes                  2

        valid    stats             12 operations.
        invalid  split-brain       Two nodes led.

        split-brain: invalid
          n1 and n2 both acknowledged writes.

        INVALID: Two nodes led.
        ");
        let coloured = summary(&results, &[], Options { colour: true });
        assert!(coloured.contains("\x1b[31mINVALID"));
    }
}
