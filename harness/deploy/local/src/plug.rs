//! The local back end as a plug: the traits of `duress-backend` over hosts in namespaces, the
//! fabric's links, clocks skewed by the vDSO, and FUSE disks.

mod clocks;
mod disks;
mod links;
mod process;

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use duress_backend::clocks::Clocks;
use duress_backend::disks::Disks;
use duress_backend::links::Links;
use duress_backend::{
    Backend, Captured, Error, Family, HostSpec, Inside, Lacking, Options, Process, ProcessSpec, Site,
};

use crate::sandbox::{self, SandboxProcess};
use crate::{DeployError, Local, cpu_time_self, preflight};

/// Hosts as namespaces of this machine.
pub const BACKEND: &dyn Backend = &Namespaces;

struct Namespaces;

impl Backend for Namespaces {
    fn name(&self) -> &'static str {
        "local"
    }

    fn about(&self) -> &'static str {
        "processes in namespaces of this machine"
    }

    fn lacks(&self, family: Family) -> Option<Lacking> {
        match family {
            // Every run needs what these do.
            Family::Links | Family::Processes | Family::Clocks => None,
            Family::Disks => {
                let why = preflight().fuse().err()?;
                Some(Lacking { family, needs: "FUSE file systems".into(), why })
            }
        }
    }

    fn enter(&self, args: &[OsString]) -> Result<Box<dyn Inside>, Error> {
        let sandbox = sandbox::enter(args).map_err(|e| {
            let preflight = preflight();
            let advice = if preflight.ok() { String::new() } else { format!("\n\n{preflight}") };
            Error::failed(format!("can't enter a sandbox: {e}{advice}"))
        })?;
        Ok(Box::new(sandbox))
    }

    fn prepare(&self) -> Result<(), Error> {
        sandbox::prepare_inside().map_err(|e| Error::failed(format!("can't prepare the sandbox: {e}")))
    }

    fn interrupted(&self) -> bool {
        sandbox::interrupted()
    }

    fn up(&self, hosts: &[HostSpec], options: &Options) -> Result<Box<dyn Site>, Error> {
        let fabric = duress_fabric::Options { capture: options.capture.clone(), ..duress_fabric::Options::default() };
        Ok(Box::new(Here(Local::with_options(hosts, options.seed, &fabric)?)))
    }
}

impl Inside for SandboxProcess {
    fn interrupt(&self) -> Result<(), Error> {
        Ok(SandboxProcess::interrupt(self)?)
    }

    fn kill(&self) -> Result<(), Error> {
        Ok(SandboxProcess::kill(self)?)
    }

    fn wait(&self) -> Result<ExitStatus, Error> {
        Ok(SandboxProcess::wait(self)?)
    }
}

/// The hosts of one run.
#[derive(Debug)]
struct Here(Local);

impl Site for Here {
    fn address(&self, host: &str) -> Option<Ipv4Addr> {
        self.0.address(host)
    }

    fn renumber(&self, host: &str) -> Result<Ipv4Addr, Error> {
        Ok(self.0.renumber(host)?)
    }

    fn answers(&self, from: &str, address: Ipv4Addr, within: Duration) -> Result<bool, Error> {
        Ok(self.0.answers(from, address, within)?)
    }

    fn spawn(&self, host: &str, spec: ProcessSpec) -> Result<Arc<dyn Process>, Error> {
        if let Some(directory) = spec.log.parent() {
            let failed = |e| DeployError::kernel(format!("make {}", directory.display()), e);
            std::fs::create_dir_all(directory).map_err(failed)?;
        }
        Ok(Arc::new(self.0.spawn(host, spec)?))
    }

    fn links(&self) -> Result<&dyn Links, Lacking> {
        Ok(self)
    }

    fn clocks(&self) -> Result<&dyn Clocks, Lacking> {
        Ok(self)
    }

    fn disks(&self) -> Result<&dyn Disks, Lacking> {
        Ok(self)
    }

    fn note(&self, text: &str) {
        self.0.links().note(text);
    }

    fn captured(&self) -> Option<Captured> {
        self.0.links().captured()
    }

    /// All of it is in this program.
    fn cpu_time(&self) -> Duration {
        cpu_time_self()
    }
}
