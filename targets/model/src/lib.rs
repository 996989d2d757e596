//! The bundled machines under [stateright](https://www.stateright.rs)'s exhaustive checker: every
//! state that a tiny cluster can reach, within bounds, instead of those that a run happens to.
//!
//! [`check`] explores; [`explore`] serves stateright's explorer. The machines are the very ones
//! that run as processes. A state of the model holds every node with its timers and disk, the
//! messages on their way, the clients and what they were told (in stateright's
//! `LinearizabilityTester`). What can happen: a message arrives, twice perhaps; a timer runs out,
//! on time or late; a disk finishes; a node crashes, with any part of what its disk had not yet
//! finished, and starts again; the controller shuts a node off that another asked it to; a client
//! asks. Loss, delay, pauses, partitions and dead nodes need no steps of their own: they are
//! messages that don't arrive and nodes that do nothing for as long as the story lasts.
//!
//! **Properties**: what clients are told is linearizable; at most one node leads in a term; nodes
//! that have applied equally much of the log have applied the same. And, so that these are not
//! kept by doing nothing: a node leads some time, and all operations succeed some time.
//!
//! **What is abstracted away**
//! - *Time.* All nodes share one monotonic clock. It stands still except when a timer runs out:
//!   then it advances to the timer's time, or, when late, past every time-out. So durations
//!   matter only as "not yet" or "long ago". Lease reads are explored with perfect clocks only,
//!   whatever drift is configured; locks, whose leases are all about time, not at all.
//! - *Wall clocks* stand still, an hour apart if [`Bounds::skewed_clocks`] says so.
//! - *Primary-backup's heartbeat* is taken to be twice the fail-over time-out, so that one tick
//!   does what many would.
//! - *Requests* reach the node they are sent to at once, and answers their client, unless clients
//!   may ask again: then answers may be late or lost. A request that is refused at once, for
//!   certain, counts as not having been made.
//! - *The disk* loses a suffix of the writes it had not finished; it doesn't tear or corrupt.
//! - The bounds of [`Bounds`], among them that of terms, without which leaders could duel for
//!   ever.

mod bounds;
mod check;
mod model;
mod register;
mod state;
mod step;
mod story;
mod subject;
mod turn;
mod words;

pub use bounds::{Ask, Bounds};
pub use check::{Outcome, Progress, Search, Stopped, check, explore};
pub use story::{Place, Step, Story};
