//! Drawn cases can be written down and read again, and rubbish is refused.

use duress_fault::Kind;
use duress_hunt::{Case, Property, Repro, draw};
use duress_plug::Plugs;
use duress_scenario::{Options, Scenario};
use duress_seed::Seed;

const SCENARIOS: &[(&str, &str)] = &[
    ("atc-split-brain", include_str!("../../../examples/atc-split-brain.yaml")),
    ("lock-pause", include_str!("../../../examples/lock-pause.yaml")),
    ("paxos-crashes", include_str!("../../../examples/paxos-crashes.yaml")),
    ("quorum-r2w2", include_str!("../../../examples/quorum-r2w2.yaml")),
    ("takeover-cut", include_str!("../../../examples/takeover-cut.yaml")),
    ("triggers", TRIGGERS),
];

/// Every kind of trigger.
const TRIGGERS: &str = "
target: paxos
faults:
  - {when: {node: n2, becomes: candidate, nth: 2}, after: 40ms, lasts: 1s, pause: n2}
  - {when: {operations: 500}, lasts: 1s, crash: one}
  - at: 5s
    sequence:
      - {name: a, lasts: 2s, partition: bare-majority}
      - parallel: [{lasts: 1s, crash: n1}, {lasts: 2s, crash: n2}]
      - {lasts: 1s, pause: primary-and-backup}
  - {when: {starts: a}, lasts: 1s, pause: one}
";

fn plugs() -> Plugs<'static> {
    Plugs { targets: duress_kv::kit::TARGETS, workloads: duress_workloads::plugs() }
}

fn scenarios() -> Vec<Scenario> {
    let mut all: Vec<Scenario> =
        SCENARIOS.iter().map(|(name, text)| Scenario::parse(text, name, &[], &plugs()).unwrap()).collect();
    all.push(
        Scenario::from_options(&Options { workload: Some("set".into()), ..Options::default() }, &plugs()).unwrap(),
    );
    all
}

fn every_extra() -> Vec<Kind> {
    Kind::ALL.iter().map(|(kind, _)| *kind).collect()
}

fn repro(case: Case) -> Repro {
    Repro {
        version: "0.1.0".into(),
        property: Property::Checker("linearizable".into()),
        summary: "A stale read.".into(),
        trace_hash: 0x0123_4567_89ab_cdef,
        case,
    }
}

#[test]
fn what_is_drawn_is_read_again_as_it_was() {
    for scenario in scenarios() {
        for seed in 0..100 {
            let mut case = draw(&scenario, &every_extra(), Seed(seed));
            case.operations.limits.insert(2, seed);
            case.operations.skipped.insert((1, seed));
            case.scenario.faults = duress_scenario::Faults::None;
            let repro = repro(case);
            let text = repro.to_yaml();
            let read = Repro::parse(text.as_bytes(), "file", &plugs()).unwrap_or_else(|e| panic!("{e}\n{text}"));
            assert_eq!(read, repro, "seed {seed}\n{text}");
        }
    }
}

#[test]
fn draws_stay_within_the_scenario_and_differ() {
    for scenario in scenarios() {
        let cases: Vec<Case> = (0..100).map(|seed| draw(&scenario, &[], Seed(seed))).collect();
        for case in &cases {
            let (drawn, asked) = (&case.scenario, &scenario);
            assert!(drawn.clients >= 1 && drawn.clients <= asked.clients);
            assert!(drawn.workload.concurrency() <= asked.workload.concurrency());
            assert!(drawn.workload.concurrency() >= drawn.clients.min(asked.workload.concurrency()));
            assert!(drawn.time <= asked.time && drawn.time.as_secs_f64() >= 1.0);
            assert_eq!(drawn.target, asked.target);
            let asked_kinds: Vec<&str> = match &asked.faults {
                duress_scenario::Faults::None => vec![],
                duress_scenario::Faults::Planned(plan) => plan.kinds.iter().map(|kind| kind.name()).collect(),
                duress_scenario::Faults::Scripted(faults) => {
                    assert_eq!(case.schedule.len(), faults.len(), "a script is kept whole");
                    faults.iter().map(|timed| timed.fault.kind().name()).collect()
                }
            };
            assert!(case.schedule.iter().all(|timed| asked_kinds.contains(&timed.fault.kind().name())));
        }
        assert_eq!(cases[7], draw(&scenario, &[], Seed(7)), "a draw is a function of its seed");
        let networks: Vec<_> = cases.iter().map(|case| format!("{:?}", case.network)).collect();
        assert!(networks.iter().collect::<std::collections::BTreeSet<_>>().len() > 90, "networks differ");
    }
}

#[test]
fn clear_words_for_what_can_not_be() {
    let scenario = &scenarios()[0];
    let good = repro(draw(scenario, &[], Seed(1))).to_yaml();
    for (from, to, said) in [
        ("format: 2", "format: 1", "format is 1"),
        ("format: 2", "format: 2\nextra: 3", "unknown field `extra`"),
        ("- n2", "- n9", "no host named `n9`"),
        ("    partition:", "    meteorite:", "meteorite"),
        ("failover: timeout", "failover: prayer", "prayer"),
        ("trace_hash: 0123456789abcdef", "trace_hash: xyz", "16 hexadecimal digits"),
        ("seed: 1", "seed: null", "no `seed`"),
        ("spread: 1.0", "spread: .nan", "network.spread"),
        ("max_events: 2000000", "max_events: 0", "max_events"),
    ] {
        if !good.contains(from) {
            assert!(from.starts_with("spread"), "`{from}` is not in the file:\n{good}");
            continue;
        }
        let error =
            Repro::parse(good.replace(from, to).as_bytes(), "bad.repro.yaml", &plugs()).unwrap_err().to_string();
        assert!(error.starts_with("bad.repro.yaml: ") && error.contains(said), "{from} -> {to}: {error}");
    }
    let error = Repro::parse(&vec![b'a'; 2 << 20], "big", &plugs()).unwrap_err().to_string();
    assert!(error.contains("longer than 1024 KiB"), "{error}");
}

#[test]
fn rubbish_is_refused_without_a_panic() {
    let good = repro(draw(&scenarios()[2], &every_extra(), Seed(3))).to_yaml().into_bytes();
    let seed = Seed(99);
    let mut refused = 0;
    for n in 0..1_500u64 {
        let decide = |what| seed.decide(&[n, what]);
        let mut bytes = good.clone();
        let at = decide(0).below(bytes.len() as u64) as usize;
        match decide(1).below(4) {
            0 => bytes[at] = decide(2).below(256) as u8,
            1 => bytes.truncate(at),
            2 => {
                let end = (at + decide(2).below(40) as usize).min(bytes.len());
                bytes.drain(at..end);
            }
            _ => {
                let piece: Vec<u8> = (0..decide(2).below(30)).map(|i| decide(10 + i).below(256) as u8).collect();
                bytes.splice(at..at, piece);
            }
        }
        refused += usize::from(Repro::parse(&bytes, "rubbish", &plugs()).is_err());
    }
    assert!(refused > 700, "only {refused} of 1500 damaged files were refused");
    for text in ["", "[]", "{", "a: &a [*a, *a]", "- - - - -", "\u{0}", "format: 1"] {
        assert!(Repro::parse(text.as_bytes(), "rubbish", &plugs()).is_err(), "{text}");
    }
    let deep = "[".repeat(100_000);
    assert!(Repro::parse(deep.as_bytes(), "deep", &plugs()).is_err());
}
