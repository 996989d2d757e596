//! What is to be sent over harmed links, and what it shows. Pure.

use std::time::Duration;

use duress_backend::links::{ALL, Counters, Rule, Shape, Shots, Volley};
use duress_fault::{Checksum, LinkHarm, Share};

/// How long a datagram that should not arrive is waited for.
pub(super) const SILENCE: Duration = Duration::from_millis(60);
/// Bytes of a datagram where the size doesn't matter.
const SIZE: usize = 64;
/// Bytes that UDP, IP and Ethernet add to a datagram, and UDP and IP alone.
const HEADERS: usize = 42;
const IP_HEADERS: usize = 28;
/// So many harmed datagrams are hoped for, to tell one share from another.
const HOPED_FOR: u64 = 20;
/// So many are sent at least, and at most, over all links together.
const DATAGRAMS: (u64, u64) = (200, 20_000);
/// The longest look at a flapping link.
const LONGEST_LOOK: Duration = Duration::from_secs(2);

/// The rule of a link that does this and nothing else.
pub(super) fn rule_of(harm: &LinkHarm) -> Rule {
    let open = Rule::OPEN;
    match *harm {
        LinkHarm::Cut => Rule::CUT,
        LinkHarm::Delay { by, jitter, shape } => {
            let jitter = if shape == Shape::Constant { Duration::ZERO } else { jitter };
            Rule { delay: by, jitter, shape, ..open }
        }
        LinkHarm::Loss(share) => Rule { loss: share.parts(), ..open },
        LinkHarm::Reorder { share, by } => Rule { reorder: share.parts(), reorder_by: by, ..open },
        LinkHarm::Duplicate(share) => Rule { duplicate: share.parts(), ..open },
        LinkHarm::Corrupt { share, checksum: Checksum::Wrong } => Rule { corrupt: share.parts(), ..open },
        LinkHarm::Corrupt { share, checksum: Checksum::Right } => Rule { corrupt_unnoticed: share.parts(), ..open },
        LinkHarm::Bandwidth { rate } => Rule { rate: Some(rate), ..open },
        LinkHarm::BlackHole { above } => Rule { black_hole: Some(above), ..open },
        LinkHarm::Reset => Rule { reset: true, ..open },
        LinkHarm::Flap { every } => Rule { flap: Some(every), ..open },
    }
}

/// Frames that the harm was done to, of what a link counts.
pub(super) fn harmed(harm: &LinkHarm, counters: &Counters) -> u64 {
    match harm {
        LinkHarm::Cut => counters.dropped,
        LinkHarm::Delay { .. } => counters.delayed,
        LinkHarm::Loss(_) => counters.lost,
        LinkHarm::Reorder { .. } => counters.reordered,
        LinkHarm::Duplicate(_) => counters.duplicated,
        LinkHarm::Corrupt { .. } => counters.corrupted,
        LinkHarm::Bandwidth { .. } => counters.shaped + counters.tail_dropped,
        LinkHarm::BlackHole { .. } => counters.black_holed,
        LinkHarm::Reset => counters.reset,
        LinkHarm::Flap { .. } => counters.flapped,
    }
}

/// What becomes of a small probe on a link with this rule: it arrives, it doesn't, or nobody knows.
pub(super) fn passes_probes(rule: &Rule) -> Option<bool> {
    let by_chance = rule.loss > 0
        || rule.corrupt > 0
        || rule.corrupt_unnoticed > 0
        || rule.flap.is_some()
        || rule.rate.is_some()
        || rule.black_hole.is_some_and(|largest| largest < 100);
    if rule.drop { Some(false) } else { (!by_chance).then_some(true) }
}

/// How long a frame may take on a link with this rule.
pub(super) fn slowest(rule: &Rule) -> Duration {
    let reordered = if rule.reorder > 0 { rule.reorder_by } else { Duration::ZERO };
    rule.delay + 5 * rule.jitter + reordered
}

/// The least a frame takes.
pub(super) fn quickest(rule: &Rule) -> Duration {
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(rule.shape.least(nanos(rule.delay), nanos(rule.jitter)))
}

/// Whether other harms on the link keep this one from being measured.
pub(super) fn is_hidden(harm: &LinkHarm, rule: &Rule) -> bool {
    let other = |is_own: bool, is_there: bool| is_there && !is_own;
    rule.drop
        || other(matches!(harm, LinkHarm::Flap { .. }), rule.flap.is_some())
        || other(matches!(harm, LinkHarm::Bandwidth { .. }), rule.rate.is_some())
        || other(matches!(harm, LinkHarm::BlackHole { .. }), rule.black_hole.is_some_and(|largest| largest < 1500))
        || rule.loss.max(rule.corrupt).max(rule.corrupt_unnoticed) > 9 * (ALL / 10) && !is_by_chance(harm)
}

fn is_by_chance(harm: &LinkHarm) -> bool {
    matches!(harm, LinkHarm::Loss(_) | LinkHarm::Corrupt { .. })
}

/// What to send over `links` links to see a harm, volley by volley. `slowest` is how long a frame
/// may take. Nothing: datagrams don't show it.
pub(super) fn shots(harm: &LinkHarm, links: usize, slowest: Duration) -> Vec<Shots> {
    let wait = SILENCE + slowest;
    let plain = Shots { count: 40, size: SIZE, every: Duration::ZERO, wait };
    let for_share = |share: Share| {
        let hoped_for = HOPED_FOR * u64::from(ALL) / u64::from(share.parts().max(1));
        let all = hoped_for.clamp(DATAGRAMS.0, DATAGRAMS.1);
        Shots { count: all.div_ceil(links.max(1) as u64) as u32, ..plain }
    };
    match *harm {
        LinkHarm::Cut | LinkHarm::Reset => Vec::new(),
        LinkHarm::Delay { jitter, .. } if jitter.is_zero() => Vec::new(),
        LinkHarm::Delay { .. } => vec![Shots { count: 200, ..plain }],
        LinkHarm::Loss(share) | LinkHarm::Duplicate(share) | LinkHarm::Corrupt { share, .. } => vec![for_share(share)],
        LinkHarm::Reorder { share, by } => {
            let every = (by / 4).clamp(Duration::from_micros(20), Duration::from_micros(200));
            vec![Shots { every, ..for_share(share) }]
        }
        LinkHarm::Bandwidth { rate } => {
            // A tenth of a second's worth, which the queue before the link has room for.
            let bytes = (rate / 80).clamp(1000, 8 << 20) as usize;
            let size = if bytes < 10_000 { 200 } else { 1400 };
            vec![Shots { count: (bytes / size).max(4) as u32, size, wait: wait + Duration::from_millis(400), ..plain }]
        }
        LinkHarm::BlackHole { above } => {
            let fits = (above as usize).saturating_sub(IP_HEADERS);
            vec![Shots { count: 10, size: fits, ..plain }, Shots { count: 10, size: fits + 1, ..plain }]
        }
        LinkHarm::Flap { every } => {
            let look = (every * 5 / 2).min(LONGEST_LOOK);
            vec![Shots { count: 60, every: look / 60, ..plain }]
        }
    }
}

/// All links' volleys together.
#[derive(Default)]
struct Sum {
    sent: u32,
    arrived: u32,
    copies: u32,
    damaged: u32,
    overtaken: u32,
}

fn sum(volleys: &[Volley]) -> Sum {
    volleys.iter().fold(Sum::default(), |sum, volley| Sum {
        sent: sum.sent + volley.sent,
        arrived: sum.arrived + volley.arrived(),
        copies: sum.copies + volley.copies,
        damaged: sum.damaged + volley.damaged,
        overtaken: sum.overtaken + volley.overtaken,
    })
}

/// Whether `found` of `all` is what a probability gives, within five deviations and a few more.
fn is_share(found: u32, all: u32, probability: f64) -> bool {
    let (all, found) = (f64::from(all), f64::from(found));
    let expected = all * probability;
    found > 0.0 && (found - expected).abs() <= 5.0 * (expected * (1.0 - probability)).sqrt() + 3.0
}

/// What volleys show of a harm on links of these rules: in words, and whether it is as claimed; and
/// figures. There is a volley for each link and each of the [`shots`].
pub(super) fn judge(
    harm: &LinkHarm,
    rules: &[Rule],
    shots: &[Shots],
    volleys: &[Vec<Volley>],
) -> (bool, String, Vec<(&'static str, f64)>) {
    let Some(first) = volleys.first() else { return (false, "nothing was sent".to_owned(), Vec::new()) };
    let total = sum(first);
    let one_of = |ppm: fn(&Rule) -> u32| {
        let all: f64 = rules.iter().map(|rule| f64::from(ppm(rule)) / f64::from(ALL)).sum();
        all / rules.len().max(1) as f64
    };
    let whole = (1.0 - one_of(|rule| rule.corrupt)) * (1.0 - one_of(|rule| rule.corrupt_unnoticed));
    let spared = 1.0 - one_of(|rule| rule.loss);
    let missing = total.sent - total.arrived;
    let mut figures = vec![("datagrams_sent", f64::from(total.sent)), ("datagrams_arrived", f64::from(total.arrived))];
    let sent = total.sent;
    let (good, words) = match *harm {
        LinkHarm::Cut | LinkHarm::Reset => (false, "datagrams don't show it".to_owned()),
        LinkHarm::Loss(_) | LinkHarm::Corrupt { checksum: Checksum::Wrong, .. } => {
            let good = is_share(missing, sent, 1.0 - spared * whole);
            (good, format!("{missing} of {sent} datagrams didn't arrive whole"))
        }
        LinkHarm::Corrupt { checksum: Checksum::Right, .. } => {
            figures.push(("datagrams_damaged", f64::from(total.damaged)));
            let good = is_share(total.damaged, sent, one_of(|rule| rule.corrupt_unnoticed) * spared);
            (good, format!("{} of {sent} datagrams arrived damaged", total.damaged))
        }
        LinkHarm::Duplicate(_) => {
            figures.push(("datagrams_twice", f64::from(total.copies)));
            let good = is_share(total.copies, total.arrived, one_of(|rule| rule.duplicate));
            (good, format!("{} of {} datagrams arrived twice", total.copies, total.arrived))
        }
        LinkHarm::Reorder { .. } => {
            figures.push(("datagrams_overtaken", f64::from(total.overtaken)));
            // The last ones have nobody after them, and on a busy machine some come together.
            let share = one_of(|rule| rule.reorder);
            let good = total.overtaken > 0
                && (is_share(total.overtaken, total.arrived, share)
                    || f64::from(total.overtaken) < f64::from(total.arrived) * share);
            (good, format!("{} of {} datagrams were overtaken", total.overtaken, total.arrived))
        }
        LinkHarm::Delay { .. } => judge_delay(rules, first, &mut figures),
        LinkHarm::Bandwidth { .. } => judge_rate(rules, shots, first, &mut figures),
        LinkHarm::BlackHole { .. } => {
            let large = volleys.get(1).map(|volleys| sum(volleys)).unwrap_or_default();
            figures.push(("large_sent", f64::from(large.sent)));
            figures.push(("large_arrived", f64::from(large.arrived)));
            let good = total.arrived > 0 && large.sent > 0 && large.arrived == 0;
            let words = format!(
                "{} of {sent} small datagrams arrived, and {} of {} large ones",
                total.arrived, large.arrived, large.sent
            );
            (good, words)
        }
        LinkHarm::Flap { every } => {
            let turns: usize = first
                .iter()
                .map(|v| v.latencies.windows(2).filter(|pair| pair[0].is_some() != pair[1].is_some()).count())
                .sum();
            figures.push(("turns", turns as f64));
            let seen_whole = every >= LONGEST_LOOK || first.iter().all(|volley| volley.arrived() > 0);
            let seen_cut = first.iter().all(|volley| volley.arrived() < volley.sent);
            let words = format!("{missing} of {sent} datagrams didn't arrive, in {turns} turns");
            (seen_cut && seen_whole, words)
        }
    };
    (good, words, figures)
}

/// Delays of a distribution: the middle and the spread are what they should be.
fn judge_delay(rules: &[Rule], volleys: &[Volley], figures: &mut Vec<(&'static str, f64)>) -> (bool, String) {
    let mut good = !volleys.is_empty();
    let mut told = String::new();
    for (rule, volley) in rules.iter().zip(volleys) {
        let [low, middle, high] = [0.1, 0.5, 0.9].map(|share| volley.latency(share).unwrap_or_default());
        let least = volley.latency(0.0).unwrap_or_default();
        // Medians and spreads from the tenth to the ninetieth percentile, in jitters.
        let (above, spread) = match rule.shape {
            Shape::Constant => (0.0, 0.0),
            Shape::Uniform => (0.0, 1.6),
            Shape::Normal => (0.0, 2.56),
            Shape::Pareto => (0.52, 2.24),
        };
        let expected = rule.delay + rule.jitter.mul_f64(above);
        let tolerance = rule.jitter.mul_f64(0.4);
        good &= volley.arrived() > 0
            && least >= quickest(rule)
            && middle + tolerance >= expected
            && middle <= expected + tolerance + Duration::from_millis(10)
            && high.saturating_sub(low) >= rule.jitter.mul_f64(spread / 2.0);
        told = format!("datagrams took {low:.1?} to {high:.1?} (10th to 90th percentile), {middle:.1?} in the middle");
        let millis = |duration: Duration| duration.as_secs_f64() * 1e3;
        figures.retain(|(name, _)| !name.starts_with("latency"));
        figures.extend([
            ("latency_ms_p10", millis(low)),
            ("latency_ms_p50", millis(middle)),
            ("latency_ms_p90", millis(high)),
        ]);
    }
    (good, told)
}

/// No link carries more than its rate allows.
fn judge_rate(
    rules: &[Rule],
    shots: &[Shots],
    volleys: &[Volley],
    figures: &mut Vec<(&'static str, f64)>,
) -> (bool, String) {
    let size = shots.first().map_or(0, |shots| shots.size + HEADERS);
    let mut good = !volleys.is_empty();
    let mut fastest = 0.0_f64;
    for (rule, volley) in rules.iter().zip(volleys) {
        let after_first = volley.arrived().saturating_sub(1);
        let rate = f64::from(after_first) * (size * 8) as f64 / volley.took.as_secs_f64().max(1e-9);
        fastest = fastest.max(rate);
        good &= after_first > 0 && rate <= 1.15 * rule.rate.unwrap_or(u64::MAX) as f64;
    }
    figures.push(("bits_per_second", fastest.round()));
    (good, format!("datagrams came through at {fastest:.0} bit/s"))
}

#[cfg(test)]
mod tests;
