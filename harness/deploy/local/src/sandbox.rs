//! The sandbox: new user, mount, PID, network, UTS and IPC namespaces that end with their first
//! process, so that nothing made inside can outlive a run.
//!
//! Three processes take part:
//!
//! - *outside*: what the user started. It calls [`enter`], passes signals on and waits.
//! - *init*: the same program executed again as process 1 of the new PID namespace. It only reaps
//!   orphans, passes signals on and watches its lifeline; see [`prepare_inside`].
//! - *inside*: forked from init by [`prepare_inside`], process 2. It does the work. As it isn't
//!   process 1, it has no children but its own, and `std::process` works as usual.
//!
//! When outside dies, whatever the reason, init dies: by the parent-death signal (prctl(2)), and
//! again by the end of its lifeline. When inside ends, init ends. When init ends, the kernel kills
//! every process in the PID namespace, and with the last of them go the namespaces, the mounts and
//! the interfaces (pid_namespaces(7)).

mod enter;
mod init;
pub(crate) mod namespaces;

pub use enter::{SandboxProcess, enter};
pub use init::{interrupted, prepare_inside};

pub(crate) use enter::GO;

/// The descriptor under which init inherits its lifeline. Inside, and in the processes inside
/// starts, the number is used for the control channel, so it is never left free there.
const LIFELINE: i32 = 3;

/// The exit code when the harness or its surroundings failed, as in Jepsen.
const INFRASTRUCTURE: i32 = 254;
