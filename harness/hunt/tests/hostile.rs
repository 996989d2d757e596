//! Repro files that may come from anywhere: what makes no sense is refused with a message that
//! says where, and nothing is worse than that.

use std::time::{Duration, Instant};

use duress_fault::Kind;
use duress_hunt::{Case, Property, Repro, draw};
use duress_plug::Plugs;
use duress_scenario::Scenario;
use duress_seed::Seed;
use duress_sim::Chance;
use proptest::prelude::*;

const SCENARIO: &str = include_str!("../../../examples/atc-split-brain.yaml");

fn plugs() -> Plugs<'static> {
    Plugs { targets: duress_kv::kit::TARGETS, workloads: duress_workloads::plugs() }
}

/// A file with everything in it that a file can have.
fn good() -> String {
    let scenario = Scenario::parse(SCENARIO, "atc", &[], &plugs()).unwrap();
    let extras: Vec<Kind> = Kind::ALL.iter().map(|(kind, _)| *kind).collect();
    let cases = (0..).map(|seed| draw(&scenario, &extras, Seed(seed)));
    let mut case: Case = cases.into_iter().find(|case| case.schedule.len() > 4).unwrap();
    case.scenario.faults = duress_scenario::Faults::None;
    case.operations.limits.insert(2, 5);
    case.operations.skipped.insert((1, 3));
    case.chance = Chance::Only([(("n1".into(), "c1".into()), vec![1..=4, 7..=7])].into());
    let repro = Repro {
        version: "0.1.0".into(),
        property: Property::Checker("linearizable".into()),
        summary: "A stale read.".into(),
        trace_hash: 0x0123_4567_89ab_cdef,
        case,
    };
    let text = repro.to_yaml();
    assert_eq!(Repro::parse(text.as_bytes(), "good", &plugs()).unwrap(), repro, "{text}");
    text
}

/// The file with something else in the first line that begins with this, at any depth.
fn with(good: &str, line: &str, instead: &str) -> Vec<u8> {
    let mut done = false;
    let replace = |old: &str| {
        let bare = old.trim_start_matches([' ', '-']);
        if !done && bare.starts_with(line) {
            done = true;
            return format!("{}{instead}\n", &old[..old.len() - bare.len()]);
        }
        format!("{old}\n")
    };
    let text: String = good.lines().map(replace).collect();
    assert!(done, "no line begins with `{line}`:\n{good}");
    text.into_bytes()
}

fn refused(name: &str, bytes: &[u8]) -> String {
    let began = Instant::now();
    let error = match Repro::parse(bytes, "hostile.repro.yaml", &plugs()) {
        Ok(_) => panic!("{name} was taken"),
        Err(error) => error.to_string(),
    };
    // Far more than it takes; a bomb that goes off takes longer than anybody waits.
    assert!(began.elapsed() < Duration::from_secs(60), "{name} took {:?}", began.elapsed());
    assert!(error.starts_with("hostile.repro.yaml: "), "{name}: {error}");
    assert!(error.len() < 1_000, "{name}: a message of {} bytes", error.len());
    error
}

#[test]
fn one_wrong_thing_is_refused_and_located() {
    let good = good();
    // Which line is replaced by what, and what the message has to say: where it is, mostly.
    let wrong = [
        ("format:", "format: 1", "format is 1"),
        ("format:", "format: -1", "format"),
        ("format:", "format: 1e400", "line 1"),
        ("format:", "format: 99999999999999999999", "line 1"),
        ("format:", "format: one", "format: invalid type: string \"one\""),
        ("format:", "format: [1]", "format: invalid type: sequence"),
        ("format:", "other: 1", "other"),
        ("duress:", "duress: ''", "duress must be"),
        ("duress:", "duress: {}", "duress: invalid type: map"),
        ("violates:", "violates: \"a\\nb\"", "violates must be"),
        ("trace_hash:", "trace_hash: xyz", "trace_hash must be 16"),
        ("trace_hash:", "trace_hash: '+123456789abcdef'", "trace_hash must be 16"),
        ("trace_hash:", "trace_hash: 0123456789abcdef0", "trace_hash must be 16"),
        ("kind: primary-backup", "kind: meteorite", "meteorite"),
        ("seed:", "seed: null", "no `seed`"),
        ("seed:", "seed: -5", "seed"),
        ("clients:", "clients: 65000", "clients"),
        ("time:", "time: 1000000h", "time"),
        ("time:", "time: soon", "time"),
        ("lasts:", "lasts: 48h", "longer than a day"),
        ("lasts:", "lasts: -1s", "no duration"),
        ("lasts:", "lasts: 5", "no duration"),
        ("at:", "at: 99999999999999999999s", "no duration"),
        ("number:", "number: 18446744073709551616", "number"),
        ("partition:", "earthquake:", "unknown key `earthquake`"),
        ("one_way:", "one_way: perhaps", "true or false"),
        ("limits:", "limits: 3", "line "),
        ("max_events:", "max_events: 0", "max_events must be"),
        ("max_events:", "max_events: 20000001", "max_events must be"),
        ("spread:", "spread: .nan", "network.spread"),
        ("spread:", "spread: 1e308", "network.spread"),
        ("loss:", "loss: 1.5", "network.loss"),
        ("duplicate:", "duplicate: -.inf", "network.duplicate"),
        ("reorder_by:", "reorder_by: 25h", "longer than a day"),
        ("corruption:", "corruption: .inf", "disk.corruption"),
        ("crash: kill", "crash: maybe", "unknown variant `maybe`"),
        ("drift_ppm:", "drift_ppm: 4294967295", "clocks.drift_ppm"),
        ("from: n1", "from: n9", "chance[0]: there is no host named `n9`"),
        ("to: c1", "to: 17", "chance[0]: there is no host named `17`"),
        ("low:", "low: 23h", "low"),
    ];
    assert!(wrong.len() >= 30);
    let mut others = Vec::new();
    for (line, instead, said) in wrong {
        let instead_of = if line.starts_with("crash") && !good.contains("crash: kill") { "crash: " } else { line };
        let error = refused(instead, &with(&good, instead_of, instead));
        if !error.contains(said) {
            others.push(format!("{instead}: {error}"));
        }
    }
    assert!(others.is_empty(), "{others:#?}");
}

#[test]
fn what_is_no_repro_file_is_refused() {
    let good = good();
    // Aliases of aliases: a few lines that stand for a thousand million values.
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..9 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    let scenario_bomb = good.replace("scenario:\n", &format!("{bomb}scenario:\n"));
    // The same, flat: each alias stands for no more than the parser's own bound allows.
    let many = format!("a: &a [{}]\nb: [{}]\n", vec!["1"; 20_000].join(","), vec!["*a"; 20_000].join(","));
    let files: [(&str, Vec<u8>); 18] = [
        ("empty", Vec::new()),
        ("a list", b"[]".to_vec()),
        ("unclosed", b"{".to_vec()),
        ("a word", b"hello".to_vec()),
        ("nothing but a number", b"1".to_vec()),
        ("an alias to itself", b"a: &a [*a, *a]".to_vec()),
        ("an unknown alias", b"format: *nowhere".to_vec()),
        ("nul bytes", vec![0; 1_000]),
        ("not UTF-8", vec![0xff, 0xfe, 0x00]),
        ("deep lists", "[".repeat(100_000).into_bytes()),
        ("deep maps", "a: {".repeat(50_000).into_bytes()),
        ("dashes", "- ".repeat(50_000).into_bytes()),
        ("two documents", format!("{good}\n---\n{good}").into_bytes()),
        ("twice the same key", format!("{good}format: 2\n").into_bytes()),
        ("too long", vec![b'a'; 2 << 20]),
        ("an alias bomb", bomb.clone().into_bytes()),
        ("an alias bomb in a good file", scenario_bomb.into_bytes()),
        ("many aliases of much", many.into_bytes()),
    ];
    for (name, bytes) in &files {
        refused(name, bytes);
    }
    // Whatever is missing of it, it is not complete.
    for part in 1..40 {
        let cut = good.len() * part / 40;
        if good.is_char_boundary(cut) {
            refused("truncated", &good.as_bytes()[..cut]);
        }
    }
}

/// A tampering with some bytes of a file.
fn tampering() -> impl Strategy<Value = (usize, usize, Vec<u8>)> {
    let pieces = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..12),
        "[0-9]{1,25}".prop_map(String::into_bytes),
        prop::sample::select(vec![
            "-1",
            ".nan",
            "1e999",
            "[]",
            "{}",
            "null",
            "&a ",
            "*a",
            "!!binary ",
            "? ",
            "\n",
            "n9",
            "9999h",
            ": "
        ])
        .prop_map(|piece| piece.as_bytes().to_vec()),
    ];
    (any::<prop::sample::Index>(), 0usize..20, pieces)
        .prop_map(|(at, length, piece)| (at.index(1 << 20), length, piece))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn tampered_files_are_refused_or_mean_something(changes in prop::collection::vec(tampering(), 1..4)) {
        let mut bytes = good().into_bytes();
        for (at, length, piece) in changes {
            let at = at % (bytes.len() + 1);
            let end = (at + length).min(bytes.len());
            bytes.splice(at..end, piece);
        }
        // A file that is still taken can be written again, and is the same then.
        if let Ok(repro) = Repro::parse(&bytes, "tampered", &plugs()) {
            let again = Repro::parse(repro.to_yaml().as_bytes(), "again", &plugs()).expect("what was read can be written");
            prop_assert_eq!(again, repro);
        }
    }
}
