//! Whole runs of the bundled service: what must hold holds, and what must break breaks.

mod support;

use std::time::Duration;

use duress_checkers::Verdict;
use duress_seed::Seed;
use duress_sim::SimPlan;
use support::*;

#[test]
fn paxos_stands_every_fault() {
    let mut world = paxos_world();
    let mut valid = 0;
    for seed in 0..200 {
        let mut plan = SimPlan::new(5, 5, Duration::from_secs(3), Seed(seed));
        plan.schedule = all_faults(&plan, true);
        let run = world.run(&plan, &paxos_config(seed, 5), &mut *registers(&plan, 150));
        let results = judge(&run, &register_options(), true);
        assert!(complete(&run), "{}", explain(seed, &run, &results));
        assert_ne!(results.verdict, Verdict::Invalid, "{}", explain(seed, &run, &results));
        valid += u64::from(results.verdict == Verdict::Valid);
        if results.verdict != Verdict::Valid {
            eprintln!("{}", explain(seed, &run, &results));
        }
    }
    eprintln!("{valid} of 200 valid");
    assert!(valid > 180, "{valid} of 200 valid");
}
