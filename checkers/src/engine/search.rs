//! The forward search: a problem's events, one after the other, on a [`Frontier`].

use super::frontier::{Frontier, Meter};
use super::history::PENDING;
use super::prepare::Problem;
use crate::wgl::Outcome;

/// A search of one problem that may be interrupted and continued, with masks as wide as need be,
/// and memory that is used again for the next problem.
#[derive(Default)]
pub(super) struct Search {
    one: Option<Box<Run<1>>>,
    two: Option<Box<Run<2>>>,
    four: Option<Box<Run<4>>>,
    sixteen: Option<Box<Run<16>>>,
}

impl Search {
    /// Searches from the start. `None` if there are no masks so wide. An order is only given if
    /// `certify`.
    pub(super) fn run(&mut self, problem: &Problem, meter: &mut Meter, certify: bool) -> Option<Outcome> {
        Some(match problem.widest.div_ceil(64) {
            0 | 1 => start(&mut self.one, problem, meter, certify),
            2 => start(&mut self.two, problem, meter, certify),
            3 | 4 => start(&mut self.four, problem, meter, certify),
            5..=16 => start(&mut self.sixteen, problem, meter, certify),
            _ => return None,
        })
    }

    /// Continues the last problem's search, which was unknown. `None` if there was none.
    pub(super) fn resume(&mut self, problem: &Problem, meter: &mut Meter) -> Option<Outcome> {
        match problem.widest.div_ceil(64) {
            0 | 1 => self.one.as_mut().map(|run| run.resume(problem, meter)),
            2 => self.two.as_mut().map(|run| run.resume(problem, meter)),
            3 | 4 => self.four.as_mut().map(|run| run.resume(problem, meter)),
            5..=16 => self.sixteen.as_mut().map(|run| run.resume(problem, meter)),
            _ => None,
        }
    }
}

fn start<const N: usize>(
    run: &mut Option<Box<Run<N>>>,
    problem: &Problem,
    meter: &mut Meter,
    certify: bool,
) -> Outcome {
    let run = run.get_or_insert_with(|| Box::new(Run::new()));
    run.reset(problem, certify);
    run.resume(problem, meter)
}

struct Run<const N: usize> {
    frontier: Frontier<N>,
    /// The next event.
    at: usize,
    /// How many operations have returned.
    returned: usize,
    next_expiry: u32,
}

impl<const N: usize> Run<N> {
    fn new() -> Self {
        Run { frontier: Frontier::new(), at: 0, returned: 0, next_expiry: u32::MAX }
    }

    fn reset(&mut self, problem: &Problem, certify: bool) {
        self.frontier.reset(problem.initial, problem.values.len(), certify);
        (self.at, self.returned, self.next_expiry) = (0, 0, u32::MAX);
    }

    fn resume(&mut self, problem: &Problem, meter: &mut Meter) -> Outcome {
        let events = &problem.events;
        while let Some(event) = events.get(self.at) {
            let op = event / 2;
            let what = &problem.ops[op as usize];
            if event % 2 == 0 {
                // Alone, it takes effect here, or there is no order unless something pending helps.
                if what.ret == self.at as u32 + 1
                    && let Some(held) = self.frontier.settled()
                    && let Some(after) = what.action.of(*held)
                {
                    *held = after;
                    self.returned += 1;
                    self.at += 2;
                    continue;
                }
                if what.ret != PENDING {
                    self.frontier.call(what.slot as usize, op, what.action, what.ret);
                } else if let Some(until) = problem.useful_until(what) {
                    self.frontier.call_pending(op, what.action, until);
                    self.next_expiry = self.next_expiry.min(until);
                }
            } else {
                if let Err(limit) = self.frontier.returns(what.slot as usize, self.at as u32, meter) {
                    return Outcome::Unknown { valid_up_to: self.returned, limit };
                }
                if self.frontier.configurations().is_empty() {
                    return Outcome::NotLinearizable { stuck: op as usize };
                }
                self.returned += 1;
                if self.at as u32 >= self.next_expiry {
                    self.next_expiry = self.frontier.expire(self.at as u32 + 1);
                }
            }
            self.at += 1;
        }
        let last = self.frontier.configurations()[0].trail;
        Outcome::Linearizable { order: self.frontier.trail.order(problem, last) }
    }
}
