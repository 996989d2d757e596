//! What volleys that were made up show.

use super::*;

const MILLIS: fn(u64) -> Duration = Duration::from_millis;

/// Every harm, with measures as people use them.
fn all() -> Vec<LinkHarm> {
    let share = Share::percent(10);
    vec![
        LinkHarm::Loss(share),
        LinkHarm::Duplicate(share),
        LinkHarm::Corrupt { share, checksum: Checksum::Wrong },
        LinkHarm::Corrupt { share, checksum: Checksum::Right },
        LinkHarm::Reorder { share, by: MILLIS(5) },
        LinkHarm::Delay { by: MILLIS(50), jitter: MILLIS(10), shape: Shape::Normal },
        LinkHarm::Bandwidth { rate: 1_000_000 },
        LinkHarm::BlackHole { above: 500 },
        LinkHarm::Flap { every: MILLIS(100) },
    ]
}

/// A volley in which each datagram arrives at once.
fn whole(shots: &Shots) -> Volley {
    Volley {
        sent: shots.count,
        latencies: vec![Some(Duration::from_micros(50)); shots.count as usize],
        took: Duration::from_micros(u64::from(shots.count)),
        ..Volley::default()
    }
}

fn verdict(harm: &LinkHarm, change: impl Fn(usize, &mut Volley)) -> bool {
    let shots = shots(harm, 1, Duration::ZERO);
    let volleys: Vec<Vec<Volley>> = shots
        .iter()
        .enumerate()
        .map(|(number, shots)| {
            let mut volley = whole(shots);
            change(number, &mut volley);
            vec![volley]
        })
        .collect();
    judge(harm, &[rule_of(harm)], &shots, &volleys).0
}

#[test]
fn an_open_link_is_no_evidence_of_anything() {
    for harm in all() {
        assert!(!verdict(&harm, |_, _| {}), "{harm}");
    }
}

#[test]
fn a_dead_link_is_no_evidence_of_anything_less() {
    for harm in all() {
        assert!(!verdict(&harm, |_, volley| volley.latencies.fill(None)), "{harm}");
    }
}

#[test]
fn the_right_effect_is_evidence() {
    let lose = |volley: &mut Volley| volley.latencies.iter_mut().step_by(10).for_each(|latency| *latency = None);
    for harm in all() {
        let good = verdict(&harm, |number, volley| match harm {
            LinkHarm::Loss(_) | LinkHarm::Corrupt { checksum: Checksum::Wrong, .. } => lose(volley),
            LinkHarm::Corrupt { .. } => {
                lose(volley);
                volley.damaged = volley.sent - volley.arrived();
            }
            LinkHarm::Duplicate(_) => volley.copies = volley.sent / 10,
            LinkHarm::Reorder { .. } => volley.overtaken = volley.sent / 10,
            LinkHarm::Delay { .. } => {
                for (i, latency) in volley.latencies.iter_mut().enumerate() {
                    *latency = Some(MILLIS(30 + (i as u64 * 7) % 41));
                }
            }
            LinkHarm::Bandwidth { .. } => volley.took = MILLIS(100),
            LinkHarm::BlackHole { .. } if number == 1 => volley.latencies.fill(None),
            LinkHarm::Flap { .. } => volley.latencies[..20].fill(None),
            _ => {}
        });
        assert!(good, "{harm}");
    }
}

#[test]
fn shares_have_bounds() {
    assert!(is_share(50, 1000, 0.05) && is_share(25, 1000, 0.05));
    assert!(!is_share(0, 1000, 0.05) && !is_share(120, 1000, 0.05) && !is_share(5, 1000, 0.05));
    assert!(is_share(1000, 1000, 1.0) && !is_share(900, 1000, 1.0));
}

#[test]
fn what_others_do_hides_a_harm() {
    let loss = LinkHarm::Loss(Share::percent(5));
    let rule = rule_of(&loss);
    assert!(!is_hidden(&loss, &rule));
    assert!(is_hidden(&loss, &rule.and(Rule::CUT)));
    assert!(!is_hidden(&loss, &rule.and(rule_of(&LinkHarm::Duplicate(Share::ALL)))));
    for harm in all() {
        assert!(!is_hidden(&harm, &rule_of(&harm)), "{harm} hides itself");
    }
}

#[test]
fn probes_tell_cut_links_from_open_ones() {
    assert_eq!(passes_probes(&Rule::OPEN), Some(true));
    assert_eq!(passes_probes(&Rule::CUT), Some(false));
    assert_eq!(passes_probes(&rule_of(&LinkHarm::Loss(Share::percent(1)))), None);
    assert_eq!(passes_probes(&rule_of(&LinkHarm::Reset)), Some(true));
}

/// However many links there are, the measurement stays short.
#[test]
fn volleys_are_bounded() {
    for harm in all() {
        for links in [1, 2, 40, 1000] {
            for shots in shots(&harm, links, Duration::ZERO) {
                assert!(shots.every * shots.count <= MILLIS(4100), "{harm}: {shots:?}");
                assert!(u64::from(shots.count) <= DATAGRAMS.1, "{harm}: {shots:?}");
            }
        }
    }
}
