//! Reports put together.

use duress_checkers::{Class, Judge, Report, Results, Run, Settings, Verdict, check_all, set, stats};

use crate::notation::parse;

struct Fixed(Report);

impl Judge for Fixed {
    fn name(&self) -> &'static str {
        "fixed"
    }
    fn about(&self) -> &'static str {
        "says what it is told to"
    }
    fn judge(&self, _: &Run<'_>, _: &Settings) -> Report {
        self.0.clone()
    }
}

struct Panics;

impl Judge for Panics {
    fn name(&self) -> &'static str {
        "panics"
    }
    fn about(&self) -> &'static str {
        "panics"
    }
    fn judge(&self, run: &Run<'_>, _: &Settings) -> Report {
        panic!("operation {} is odd", run.operations.len())
    }
}

fn results(checkers: Vec<Box<dyn Judge>>) -> Results {
    let events = parse("1 c1/n1 read x : 1 2 ok 1");
    let run = Run::new(&events, false).unwrap();
    check_all(&run, &checkers, &Settings::default())
}

#[test]
fn a_panic_is_the_harness_s_fault() {
    let found = results(vec![Box::new(Panics), Box::new(Fixed(Report::valid("fixed", "fine")))]);
    assert_eq!((found.verdict, found.class), (Verdict::Unknown, Some(Class::Infrastructure)));
    assert_eq!(found.reports.len(), 2);
    assert_eq!(found.reports[0].explanation[0], "It panicked: operation 1 is odd");
}

#[test]
fn invalid_beats_unknown_beats_valid() {
    let (valid, invalid) = (Report::valid("a", ""), Report::invalid("b", ""));
    let unknown = Report::unknown("c", Class::Unavailable, "");
    let all = |reports: &[&Report]| {
        let found = results(reports.iter().map(|r| Box::new(Fixed((*r).clone())) as Box<dyn Judge>).collect());
        (found.verdict, found.class)
    };
    assert_eq!(all(&[&valid, &valid]), (Verdict::Valid, None));
    assert_eq!(all(&[&valid, &unknown]), (Verdict::Unknown, Some(Class::Unavailable)));
    assert_eq!(all(&[&unknown, &invalid, &valid]), (Verdict::Invalid, Some(Class::Bug)));
    assert_eq!(all(&[]), (Verdict::Unknown, Some(Class::Inconclusive)));
}

#[test]
fn results_survive_being_stored() {
    let found = results(vec![
        Box::new(stats::Stats { min_ok: 1 }),
        Box::new(set::Set { require_convergence: true }),
        Box::new(Panics),
    ]);
    let text = serde_json::to_string(&found).unwrap();
    assert_eq!(serde_json::from_str::<Results>(&text).unwrap(), found);
    assert!(text.contains(r#""verdict":"unknown""#), "{text}");
}

#[test]
fn a_cut_off_last_line_is_a_run_cut_short() {
    let events = parse("1 c1/n1 read x : 1 2 ok 1");
    let whole = Run::new(&events, false).unwrap();
    let cut = Run::new(&events, true).unwrap();
    let check = |run: &Run<'_>| stats::Stats { min_ok: 1 }.judge(run, &Settings::default());
    assert_eq!(check(&whole).verdict, Verdict::Valid);
    assert_eq!((check(&cut).verdict, check(&cut).class), (Verdict::Unknown, Some(Class::Inconclusive)));
}
