//! Scenarios that are right: the examples, the defaults, what the command line sets, and that
//! every scenario survives being written and read. And that nothing makes the reader panic or hang.

use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use duress_fault::{
    ClockChange, Clocks, Effect, Fault, Grudge, HostHarm, Kind, LinkHarm, Selector, Shape, Share, Timed,
};
use duress_plug::{Plugs, Target};
use duress_scenario::{Error, Faults, Heal, Options, Override, Scenario};
use duress_seed::Seed;
use proptest::prelude::*;

fn plugs() -> Plugs<'static> {
    Plugs { targets: duress_kv::kit::TARGETS, workloads: duress_workloads::plugs() }
}

/// With the targets that examples have besides.
fn all_plugs() -> Plugs<'static> {
    static TARGETS: LazyLock<Vec<&'static dyn Target>> =
        LazyLock::new(|| duress_kv::kit::TARGETS.iter().copied().chain([&duress_ring::kit::Kit as _]).collect());
    Plugs { targets: &TARGETS, workloads: duress_workloads::plugs() }
}

fn parse(text: &str, file: &str, overrides: &[Override]) -> Result<Scenario, Error> {
    Scenario::parse(text, file, overrides, &plugs())
}

fn from_options(options: &Options) -> Result<Scenario, Error> {
    Scenario::from_options(options, &plugs())
}

fn examples() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let files = std::fs::read_dir(folder).expect("the examples are there");
    let paths = files.map(|file| file.expect("a readable folder").path());
    let paths = paths.filter(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    let read = |path: std::path::PathBuf| {
        let text = std::fs::read_to_string(&path).expect("a readable file");
        (path.file_name().unwrap().to_string_lossy().into_owned(), text)
    };
    paths.map(read).collect()
}

fn set(assignments: &[&str]) -> Vec<Override> {
    assignments.iter().map(|one| Override::set(one).expect("an assignment")).collect()
}

fn example(name: &str, assignments: &[&str]) -> Scenario {
    let (_, text) = examples().into_iter().find(|(file, _)| file == name).expect("the example is there");
    parse(&text, name, &set(assignments)).unwrap_or_else(|error| panic!("{error}"))
}

fn refused(text: &str, assignments: &[&str]) -> String {
    parse(text, "test.yaml", &set(assignments)).expect_err("must be refused").to_string()
}

fn round_trip(scenario: &Scenario) {
    let yaml = scenario.to_yaml();
    let again =
        Scenario::parse(&yaml, "resolved.yaml", &[], &all_plugs()).unwrap_or_else(|error| panic!("{error}\n{yaml}"));
    assert_eq!(&again, scenario, "{yaml}");
}

#[test]
fn examples_are_right_and_survive_a_round_trip() {
    let examples = examples();
    assert!(examples.len() >= 7);
    for (file, text) in examples {
        let scenario = Scenario::parse(&text, &file, &[], &all_plugs()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(format!("{}.yaml", scenario.name), file);
        assert!(scenario.time <= Duration::from_secs(15), "{file} is too long for a quick check");
        assert!(!scenario.schedule(Seed(1)).faults().is_empty(), "{file} has no faults");
        round_trip(&scenario);
    }
}

#[test]
fn the_other_endings_of_the_stories_are_right_too() {
    let failover = |value| {
        let target = example("atc-split-brain.yaml", &[value]).target;
        (target.options().choice("failover"), target.nodes())
    };
    assert_eq!(failover("target.failover=timeout"), ("timeout", 2));
    assert_eq!(failover("target.failover=fenced"), ("fenced", 2));
    assert_eq!(failover("target.failover=vote"), ("vote", 3));
    let long = example("atc-split-brain.yaml", &["faults.0.lasts=30s", "time=45s"]);
    assert_eq!(long.schedule(Seed(1)).end(), Duration::from_secs(33));
    assert!(example("lock-pause.yaml", &["workload.fencing=true"]).workload.fencing());
    example("quorum-no-write-back.yaml", &["target.write_back=true"]);
    example("quorum-r1w1.yaml", &["target.read_quorum=2", "target.write_quorum=2"]);
    let local = example("paxos-partitions.yaml", &["target.reads=local"]);
    assert_eq!((local.target.kind(), local.target.options().choice("reads")), ("paxos", "local"));
}

#[test]
fn without_options_everything_has_a_default() {
    let scenario = from_options(&Options::default()).unwrap();
    assert_eq!(
        (scenario.name.as_str(), scenario.target.kind(), scenario.target.nodes()),
        ("paxos-register", "paxos", 5)
    );
    assert_eq!((scenario.time, scenario.clients, scenario.workload.concurrency()), (Duration::from_secs(30), 2, 10));
    let kinds: std::collections::BTreeSet<_> =
        scenario.schedule(Seed(4)).faults().iter().map(|timed| timed.fault.kind()).collect();
    assert_eq!(kinds.len(), 3);
    round_trip(&scenario);
    for target in plugs().targets {
        round_trip(&Scenario::default_for(target.name(), &plugs()).unwrap());
    }
    let error = Scenario::default_for("raft", &plugs()).unwrap_err();
    assert_eq!((error.line, error.file.as_str()), (0, "--target raft"));
}

#[test]
fn options_set_what_they_name() {
    let some = |text: &str| Some(text.to_string());
    let options = Options {
        target: some("quorum"),
        bug: some("tie-broken-by-arrival"),
        workload: some("set"),
        faults: some("partition,pause"),
        time: some("12s"),
        nodes: some("3"),
        concurrency: some("7"),
        rate: some("99.5"),
        seed: some("42"),
        set: vec!["target.write_back=false".into(), "clients=4".into()],
    };
    let scenario = from_options(&options).unwrap();
    assert_eq!((scenario.target.nodes(), scenario.clients, scenario.seed), (3, 4, Some(42)));
    let workload = &scenario.workload;
    assert_eq!((workload.kind(), workload.rate(), workload.concurrency()), ("set", Some(99.5), 7));
    let target = scenario.target.options();
    assert_eq!((target.flag("write_back"), target.integer("read_quorum")), (false, 2));
    assert!(matches!(&scenario.faults, Faults::Planned(plan) if plan.kinds == [Kind::Partition, Kind::Pause]));
    assert_eq!(scenario.target.bug().map(|bug| bug.name), Some("tie-broken-by-arrival"));
    round_trip(&scenario);
    let none = Options { faults: some("none"), ..Options::default() };
    assert_eq!(from_options(&none).unwrap().faults, Faults::None);
}

#[test]
fn every_bug_fits_the_targets_that_have_it_and_no_other() {
    for bug in duress_kv::bugs::Bug::ALL {
        for target in plugs().targets {
            let options = Options { target: Some(target.name().into()), ..Options::default() };
            assert_eq!(from_options(&options).unwrap().target.bug(), None, "never by default");
            let planted = Options { bug: Some(bug.name().into()), ..options };
            let fits = bug.modes().iter().any(|mode| mode.name() == target.name());
            match from_options(&planted) {
                Ok(scenario) => {
                    assert!(fits, "{bug} in {}", target.name());
                    assert_eq!(scenario.target.bug().map(|planted| planted.name), Some(bug.name()));
                    round_trip(&scenario);
                    let cured = parse(&scenario.to_yaml(), "cured.yaml", &set(&["target.bug=none"])).unwrap();
                    assert_eq!(cured.target.bug(), None);
                }
                Err(error) => {
                    assert!(!fits, "{error}");
                    assert!(error.message.starts_with(&format!("{bug} is a bug of ")), "{error}");
                }
            }
        }
    }
}

#[test]
fn wrong_options_are_named() {
    let text = "target: paxos\nfaults:\n  - {at: 1s, lasts: 1s, crash: one}\n";
    for (assignment, wanted) in [
        ("target.nodes=many", "--set target.nodes=many: target.nodes must be a whole number from 1 to 9, not `many`"),
        ("target.fallover=vote", "--set target.fallover=vote: unknown key `fallover` in target (paxos)"),
        ("taget.nodes=3", "--set taget.nodes=3: unknown key `taget` in the scenario; did you mean `target`?"),
        ("faults.1.lasts=3s", "--set faults.1.lasts=3s: `faults` has no item `1`; its 1 items are numbered from 0"),
        ("faults.0.lasts.x=3s", "--set faults.0.lasts.x=3s: `faults.0.lasts` is a single value"),
        ("target..nodes=3", "--set target..nodes=3: `target..nodes` is not a path"),
        ("target.nodes=[3", "--set target.nodes=[3: this is not YAML"),
    ] {
        let found = refused(text, &[assignment]);
        assert!(found.starts_with(wanted), "{found}");
    }
    let error = Override::set("nodes").unwrap_err().to_string();
    assert!(error.starts_with("--set nodes: this sets nothing; write --set key=value"), "{error}");
    let rate = Options { workload: Some("lock".into()), rate: Some("5".into()), ..Options::default() };
    let error = from_options(&rate).unwrap_err().to_string();
    assert!(error.starts_with("--rate 5: the lock workload has no rate"), "{error}");
    let empty = Options { seed: Some(String::new()), ..Options::default() };
    assert!(from_options(&empty).is_err());
}

#[test]
fn faults_can_be_written_in_many_ways() {
    let faults = |text: &str| {
        let text = format!("target: paxos\nworkload: lock\nfaults: {text}\n");
        let scenario = parse(&text, "test.yaml", &[]).unwrap_or_else(|error| panic!("{error}"));
        round_trip(&scenario);
        scenario.faults
    };
    let one = |text: &str| match faults(&format!("[{{at: 1s, lasts: 2s, {text}}}]")) {
        Faults::Scripted(timed) => timed[0].fault.clone(),
        other => panic!("not scripted: {other:?}"),
    };
    assert_eq!(faults("none"), Faults::None);
    assert_eq!(faults("[]"), Faults::None);
    assert!(matches!(faults("crash"), Faults::Planned(plan) if plan.kinds == [Kind::Crash]));
    assert_eq!(one("partition: halves"), Grudge::Halves.into());
    assert_eq!(one("crash: primary"), Fault::crash(Selector::Primary));
    assert_eq!(one("crash: n2"), Fault::crash(Selector::Names(vec!["n2".into()])));
    assert_eq!(one("pause: [c1, n5]"), Fault::pause(Selector::Names(vec!["c1".into(), "n5".into()])));
    assert_eq!(one("pause: holder"), Fault::pause(Selector::Holder));
    let delay = LinkHarm::Delay { by: Duration::from_millis(5), jitter: Duration::ZERO, shape: Shape::Constant };
    let slow = Fault::links(Grudge::SingleLink, delay);
    assert_eq!(one("delay: {grudge: single-link, by: 5ms}"), slow);
    one("partition: {grudge: halves, clients: split}");
    one("partition: {links: [[c2, n1]], one_way: true}");
    faults("{kinds: [delay, crash], delay: 30ms, crash: [all, n1, [n2, n3]], clients: split}");
}

/// Every kind can be scripted and planned; each survives being written; and what a file can say of
/// its measure is what it means.
#[test]
fn every_kind_of_fault_is_said_and_read() {
    for (kind, _) in Kind::ALL {
        let planned = format!("target: paxos\nfaults: {{kinds: [{kind}]}}\n");
        let planned = parse(&planned, "test.yaml", &[]).unwrap_or_else(|error| panic!("{error}"));
        round_trip(&planned);
        let Faults::Planned(plan) = &planned.faults else { panic!("{kind}: not planned") };
        assert_eq!(plan.measures(*kind), kind.typical());
        for effect in kind.typical() {
            let fault = match effect {
                Effect::Links(harm) => Fault::links(Grudge::Halves, harm),
                Effect::Hosts(harm) => Fault::Hosts { who: Selector::Names(vec!["n1".into()]), harm },
            };
            let text = serde_yaml::to_string(&duress_scenario::fault_to_yaml(&fault)).unwrap();
            assert_eq!(planned.fault(&text, "test").unwrap_or_else(|error| panic!("{error}")), fault, "{text}");
        }
    }
    let paxos = parse("target: paxos\n", "test.yaml", &[]).unwrap();
    let fault = |text: &str| paxos.fault(text, "test").unwrap_or_else(|error| panic!("{error}"));
    let n1 = || Selector::Names(vec!["n1".into()]);
    let links = |harm| Fault::links(Grudge::Halves, harm);
    let clock = |clocks, change| Fault::Hosts { who: n1(), harm: HostHarm::Clock { clocks, change } };
    for (text, wanted) in [
        ("loss: {grudge: halves, share: 0.5%}", links(LinkHarm::Loss(Share::ppm(5_000)))),
        ("loss: {grudge: halves, share: 0.25}", links(LinkHarm::Loss(Share::percent(25)))),
        ("bandwidth: {grudge: halves, rate: 64kbit}", links(LinkHarm::Bandwidth { rate: 64_000 })),
        ("reset: halves", links(LinkHarm::Reset)),
        ("memory: {who: n1, headroom: 8MB}", Fault::Hosts { who: n1(), harm: HostHarm::Memory { headroom: 8 << 20 } }),
        ("power-loss: n1", Fault::Hosts { who: n1(), harm: HostHarm::PowerLoss { torn: false } }),
        ("clock-jump: {who: n1, by: -500ms}", clock(Clocks::Wall, ClockChange::Jump(-500_000_000))),
        ("clock-rate: {who: n1, by: 2x, clocks: all}", clock(Clocks::All, ClockChange::Rate(1_000_000))),
        ("clock-rate: {who: n1, by: -200ppm}", clock(Clocks::Wall, ClockChange::Rate(-200))),
        ("clock-freeze: n1", clock(Clocks::Wall, ClockChange::Freeze)),
    ] {
        assert_eq!(fault(text), wanted, "{text}");
    }
    for (text, complaint) in [
        ("loss: {grudge: halves}", "doesn't say `share`"),
        ("loss: {grudge: halves, share: 120%}", "from 0.0001% to 100%"),
        ("loss: halves", "must be a map such as"),
        ("slow: n1", "doesn't say how much"),
        ("slow: {who: n1, shares: 5%}", "unknown key `shares`"),
        ("clock-jump: {who: n1, by: -1s, clocks: all}", "never run backwards"),
        ("clock-rate: {who: n1, by: 5}", "a rate such as"),
        ("delay: {grudge: halves, by: 5ms, jitter: 9ms}", "must not be more than `by`"),
        ("delay: {grudge: halves, by: 5ms, shape: normal}", "needs `jitter`"),
        ("full-disk: c1", "hits nodes only"),
        ("bandwidth: {grudge: halves, rate: 1}", "a rate a second"),
        ("{crash: n1, pause: n1}", "exactly one kind"),
    ] {
        let error = paxos.fault(text, "test").expect_err(text).to_string();
        assert!(error.contains(complaint), "{text}: {error}");
    }
}

/// What a list of scripted faults is read as, having survived being written.
fn script(faults: &str) -> Vec<Timed> {
    let text = format!("target: paxos\nworkload: lock\nfaults:\n{faults}\n");
    let scenario = parse(&text, "test.yaml", &[]).unwrap_or_else(|error| panic!("{error}"));
    round_trip(&scenario);
    match scenario.faults {
        Faults::Scripted(faults) => faults,
        other => panic!("not scripted: {other:?}"),
    }
}

/// When each fault of a script begins, in words.
fn begins(faults: &str) -> Vec<String> {
    let words = |timed: &Timed| match &timed.when {
        None => format!("at {:?}", timed.at),
        Some(trigger) if timed.at.is_zero() => trigger.to_string(),
        Some(trigger) => format!("{trigger} + {:?}", timed.at),
    };
    script(faults).iter().map(words).collect()
}

#[test]
fn faults_wait_for_what_nodes_become() {
    let becomes = |when: &str| begins(&format!("  - {{when: {when}, after: 300ms, lasts: 1s, crash: primary}}"));
    assert_eq!(becomes("{node: n2, becomes: primary}"), ["when n2 becomes primary + 300ms"]);
    assert_eq!(becomes("{node: n2, becomes: leader, nth: 2}"), ["when n2 becomes primary for the 2nd time + 300ms"]);
    assert_eq!(becomes("{becomes: down}"), becomes("{node: any, becomes: down}"));
    assert_eq!(becomes("{becomes: follower}"), ["when any node becomes backup + 300ms"]);
    assert_eq!(becomes("{operations: 500}"), ["after 500 operations + 300ms"]);
    assert_eq!(
        begins("  - {when: {becomes: candidate}, times: 3, lasts: 1s, pause: one}"),
        [
            "when any node becomes candidate",
            "when any node becomes candidate for the 2nd time",
            "when any node becomes candidate for the 3rd time",
        ]
    );
}

#[test]
fn faults_wait_for_faults_wherever_they_stand() {
    let found = begins(
        "  - {when: {ends: [cut, nap]}, after: 1s, lasts: 1s, crash: all}
  - {name: cut, at: 1s, lasts: 2s, partition: halves}
  - {name: nap, when: {starts: cut}, lasts: 1s, pause: one}
  - {when: {ends: again}, lasts: 1s, crash: one}
  - {name: again, at: 4s, every: 5s, times: 2, lasts: 1s, crash: one}",
    );
    assert_eq!(
        found,
        [
            "when faults 2, 3 have ended + 1s",
            "at 1s",
            "when fault 2 starts",
            "when faults 5, 6 have ended",
            "at 4s",
            "at 9s"
        ]
    );
}

#[test]
fn repeats_are_spelled_out() {
    assert_eq!(
        begins("  - {at: 1s, every: 5s, times: 4, lasts: 1s, crash: one}"),
        ["at 1s", "at 6s", "at 11s", "at 16s"]
    );
    let found = begins("  - {when: {node: n1, becomes: primary}, every: 2s, times: 2, lasts: 1s, crash: one}");
    assert_eq!(found, ["when n1 becomes primary", "when n1 becomes primary + 2s"]);
}

#[test]
fn blocks_run_in_sequence_and_in_parallel() {
    let found = begins(
        "  - at: 2s
    sequence:
      - {lasts: 1s, crash: one}
      - after: 500ms
        parallel:
          - {lasts: 1s, pause: n1}
          - {after: 100ms, lasts: 2s, pause: n2}
      - sequence:
          - {lasts: 1s, crash: n3}
          - {lasts: 1s, crash: n4}
      - {lasts: 1s, partition: halves}",
    );
    assert_eq!(
        found,
        [
            "at 2s",
            "when fault 1 ends + 500ms",
            "when fault 1 ends + 600ms",
            "when faults 2, 3 have ended",
            "when fault 4 ends",
            "when fault 5 ends",
        ]
    );
    let found = begins(
        "  - at: 2s
    every: 10s
    times: 2
    sequence:
      - {lasts: 1s, crash: one}
      - {lasts: 1s, pause: one}",
    );
    assert_eq!(found, ["at 2s", "when fault 1 ends", "at 12s", "when fault 3 ends"]);
}

#[test]
fn plans_have_weights_and_may_overlap() {
    let plan = |faults: &str| {
        let text = format!("target: paxos\nfaults: {faults}\n");
        let scenario = parse(&text, "test.yaml", &[]).unwrap_or_else(|error| panic!("{error}"));
        round_trip(&scenario);
        match scenario.faults {
            Faults::Planned(plan) => plan,
            other => panic!("not planned: {other:?}"),
        }
    };
    let weighted = plan("{kinds: {partition: 2, pause: 1, crash: 0}}");
    assert_eq!(weighted.kinds, [Kind::Partition, Kind::Partition, Kind::Pause]);
    let crowded = plan("{interval: 2s, duration: 5s, overlap: 3}");
    assert_eq!((crowded.overlap, crowded.duration), (3, Duration::from_secs(5)));
    let kept = plan("{keep_majority: true}");
    assert!(kept.crash.iter().chain(&kept.pause).all(|selector| selector.leaves_majority(5)));
    assert!(kept.grudges.iter().all(|grudge| grudge.leaves_majority(5)));
    assert!(plan("{grudges: [bare-majority, primary-minority]}").grudges.len() == 2);
}

#[test]
fn what_a_target_promises_with_some_nodes_away() {
    let quorum = |target: &str| {
        let text = format!("target: {target}\n");
        parse(&text, "test.yaml", &[]).unwrap_or_else(|error| panic!("{error}")).target.quorum()
    };
    assert_eq!(quorum("{kind: paxos, nodes: 5}"), Some(3));
    assert_eq!(quorum("{kind: paxos, nodes: 4}"), Some(3));
    assert_eq!(quorum("{kind: paxos, nodes: 2}"), None, "two of two are all");
    assert_eq!(quorum("{kind: quorum, nodes: 5, replicas: 5, read_quorum: 2, write_quorum: 4}"), Some(4));
    assert_eq!(quorum("{kind: quorum, nodes: 5, replicas: 3, read_quorum: 2, write_quorum: 2}"), None);
    assert_eq!(quorum("{kind: primary-backup, failover: vote, nodes: 3}"), Some(2));
    for failover in ["none", "timeout", "fenced"] {
        assert_eq!(quorum(&format!("{{kind: primary-backup, failover: {failover}}}")), None);
    }
    let healed = parse("target: paxos\nlimits: {heal: quorum}\n", "test.yaml", &[]).unwrap();
    assert_eq!(healed.limits.heal, Some(Heal::Quorum));
    round_trip(&healed);
}

#[test]
fn defaults_fit_the_target() {
    let scenario = parse("target: {kind: quorum, nodes: 2}", "test.yaml", &[]).unwrap();
    assert_eq!(scenario.workload.options.weights("mix"), [50, 30, 0]);
    let Faults::Planned(plan) = &scenario.faults else { panic!("not planned") };
    assert!(!plan.grudges.contains(&Grudge::PrimaryAlone) && !plan.grudges.contains(&Grudge::Bridge));
    assert!(!plan.crash.contains(&Selector::Primary));
    round_trip(&scenario);
    for nodes in 1..=9 {
        for target in ["paxos", "quorum", "primary-backup"] {
            for workload in ["register", "lock", "set"] {
                if target == "primary-backup" && nodes == 1 {
                    continue;
                }
                let text = format!("target: {{kind: {target}, nodes: {nodes}}}\nworkload: {workload}\n");
                round_trip(&parse(&text, "test.yaml", &[]).unwrap_or_else(|error| panic!("{error}")));
            }
        }
    }
}

#[test]
fn the_names_of_probes_are_refused() {
    let error = refused("target: paxos\nworkload: {prefix: probe-}\n", &[]);
    assert!(
        error.starts_with("test.yaml:2:20: workload.prefix can't be `probe-`; what begins with `probe-`"),
        "{error}"
    );
    let error = refused("target: paxos\nworkload: {prefix: probe-x}\n", &[]);
    assert!(error.contains("can't be `probe-x`"), "{error}");
    assert!(parse("target: paxos\nworkload: {prefix: probe}\n", "test.yaml", &[]).is_ok());
}

#[test]
fn durations_may_have_parts() {
    let scenario = parse("target: paxos\ntime: 1m 30s\n", "test.yaml", &[]).unwrap();
    assert_eq!(scenario.time, Duration::from_secs(90));
    let exact = parse("target: paxos\ntime: 1s 500ms\n", "test.yaml", &[]).unwrap();
    assert_eq!(exact.time, Duration::from_millis(1_500));
}

#[test]
fn targets_shrink_with_what_depends_on_their_nodes() {
    let of = |text: &str| parse(text, "test.yaml", &[]).unwrap_or_else(|error| panic!("{error}"));
    let quorum = of("target: {kind: quorum, nodes: 5, read_quorum: 2, write_quorum: 2}\n");
    let fewer = quorum.target.with_nodes(3).unwrap();
    assert_eq!((fewer.nodes(), fewer.options().integer("replicas")), (3, 3));
    assert!(quorum.target.with_nodes(1).is_none(), "two of one replica can't answer");
    assert!(of("target: {kind: primary-backup, failover: vote}\n").target.with_nodes(2).is_none());
    assert!(of("target: primary-backup\n").can_be_written());
}

#[test]
fn file_names_become_names() {
    let name = |file: &str| parse("target: paxos", file, &[]).unwrap().name;
    assert_eq!(name("some/where/my-run.yaml"), "my-run");
    assert_eq!(name("ein Lauf für Äpfel.yml"), "ein-Lauf-f-r--pfel");
    assert_eq!(name("/"), "scenario");
    assert!(name(&"x".repeat(500)).len() <= 64);
}

/// Whatever the text, an answer comes soon, and errors can be shown.
fn survives(text: &str) {
    let begun = Instant::now();
    if let Err(error) = parse(text, "fuzz.yaml", &[]) {
        let shown = error.to_string();
        assert!(shown.len() < 3_000, "an error of {} bytes", shown.len());
        assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "it took {:?}", begun.elapsed());
}

#[test]
fn megabytes_of_nesting_are_answered_soon() {
    for unit in
        ["[", "{", "- ", "a: {", "? ", "[{", "- - ", "a:\n ", "'", "\"\\", "&a ", "!!x ", "*a ", "|\n", "#", ",", ": "]
    {
        for head in ["", "target: "] {
            survives(&format!("{head}{}", unit.repeat((1 << 20) / unit.len() - 10)));
            survives(&format!("{head}{}", unit.repeat((3 << 20) / unit.len())));
        }
    }
    let deepening: String = (0..1_400).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    survives(&deepening);
    let keys: String = (0..90_000).map(|key| format!("k{key}: 1\n")).collect();
    survives(&keys);
    let list = format!("target: paxos\nfaults: [{}]", "{at: 1s, lasts: 1s, crash: one},".repeat(20_000));
    survives(&list);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn rubbish_is_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        survives(&String::from_utf8_lossy(&bytes));
        let _ = Scenario::parse_bytes(&bytes, "fuzz.yaml", &[], &plugs());
    }

    #[test]
    fn yaml_like_rubbish_is_refused_without_a_panic(text in r#"([a-z]{1,8}|[\[\]{},:\-?|>&*!'"%@` \n\t#]|[0-9]{1,4}){0,60}"#) {
        survives(&text);
        survives(&format!("target: paxos\n{text}"));
    }

    #[test]
    fn damaged_examples_are_refused_without_a_panic(
        which in 0usize..7, cut in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), put in any::<char>(),
    ) {
        let (_, text) = &examples()[which];
        let cut = cut.index(text.len() + 1);
        let truncated: String = text.bytes().take(cut).map(char::from).collect();
        survives(&truncated);
        let mut chars: Vec<char> = text.chars().collect();
        let at = at.index(chars.len());
        chars[at] = put;
        survives(&chars.iter().collect::<String>());
        chars.remove(at);
        survives(&chars.iter().collect::<String>());
    }

    #[test]
    fn overrides_of_any_sort_are_survived(path in "[a-z.0-9_]{0,20}", value in "\\PC{0,20}") {
        if let Ok(one) = Override::set(&format!("{path}={value}"))
            && let Err(error) = Scenario::from_overrides(&[one], &plugs())
        {
            prop_assert!(!error.to_string().is_empty());
        }
    }
}
