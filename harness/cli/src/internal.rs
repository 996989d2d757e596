//! The processes that only `duress` itself starts: nodes, client hosts, and one that tells the time.

use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use duress_driver::NodeConfig;
use serde::de::DeserializeOwned;

use crate::args::InternalArgs;
use crate::exit::Failure;
use crate::{doctor, plugs};

pub(crate) fn node(args: &InternalArgs) -> Result<ExitCode, Failure> {
    let config: NodeConfig = config(args)?;
    let kit = plugs::kit(&config.target).and_then(|kit| kit.machines());
    let kit = kit.ok_or_else(|| Failure::Usage(format!("there is no machine {:?}", config.target)))?;
    kit.run_node(config, control(args)?).map_err(|e| Failure::infrastructure("the node failed", e))?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn client(args: &InternalArgs) -> Result<ExitCode, Failure> {
    let control = control(args)?.ok_or_else(|| Failure::Usage("a client host needs --control-fd".into()))?;
    duress_driver::client_host::run_client_host(config(args)?, control)
        .map_err(|e| Failure::infrastructure("the client host failed", e))?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn tell_time() -> Result<ExitCode, Failure> {
    doctor::tell_time().map_err(|e| Failure::infrastructure("can't tell the time", e))?;
    Ok(ExitCode::SUCCESS)
}

fn config<T: DeserializeOwned>(args: &InternalArgs) -> Result<T, Failure> {
    let text = args.config.to_str().ok_or_else(|| Failure::Usage("--config is not UTF-8".into()))?;
    serde_json::from_str(text).map_err(|e| Failure::Usage(format!("--config: {e}")))
}

#[expect(unsafe_code, reason = "an inherited descriptor can only be taken over by its number")]
fn control(args: &InternalArgs) -> Result<Option<UnixStream>, Failure> {
    let Some(number) = args.control_fd else { return Ok(None) };
    nix::fcntl::fcntl(borrow(number)?, nix::fcntl::FcntlArg::F_GETFD)
        .map_err(|e| Failure::Usage(format!("--control-fd {number}: {e}")))?;
    // SAFETY: the descriptor is open (checked above) and was made for this process alone by the one
    // that started it; nothing else here knows its number, so this is its only owner.
    let owned = unsafe { OwnedFd::from_raw_fd(number) };
    Ok(Some(UnixStream::from(owned)))
}

#[expect(unsafe_code, reason = "an inherited descriptor can only be looked at by its number")]
fn borrow(number: i32) -> Result<std::os::fd::BorrowedFd<'static>, Failure> {
    if number < 3 {
        return Err(Failure::Usage(format!("--control-fd {number} is a standard stream")));
    }
    // SAFETY: not -1, and used only to ask whether it is open.
    Ok(unsafe { std::os::fd::BorrowedFd::borrow_raw(number) })
}
