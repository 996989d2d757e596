//! Clusters of machines as targets of the real world: what goes over their control channels, in the
//! words of a history. The same whatever the machines are.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use duress_driver::NodeConfig;
use duress_driver::client_host::{ClientHostConfig, Command, Completion};
use duress_driver::control::{Order, Report};
use duress_history::{Fact, Host, NodeReport, Op, Outcome, Process, Value};
use duress_machine::client::Policy;
use duress_machine::{Asker, Ended, NodeId, Observation, Status};
use duress_plug::Facts;
use duress_run::{ClientReport, Moved, NodeMessage, ProcessPlan, Target, TargetError};
use duress_scenario::Scenario;
use duress_seed::Seed;
use smol_str::{SmolStr, ToSmolStr};

use crate::assemble;
use crate::exit::Failure;

/// Node-to-node traffic.
const PEER_PORT: u16 = 7400;
/// The client API.
const HTTP_PORT: u16 = 8400;

/// A cluster of machines.
pub(crate) struct Machines {
    target: SmolStr,
    config: serde_json::Value,
    facts: Facts,
    names: Vec<Host>,
    policy: Policy,
}

impl Machines {
    /// The target of a scenario; what is drawn at random about it is drawn from `seed`.
    pub(crate) fn new(scenario: &Scenario, seed: Seed, policy: Policy) -> Result<Machines, Failure> {
        let target = &scenario.target;
        let machines = assemble::kit(scenario)?.machines();
        let machines = machines.ok_or_else(|| Failure::Usage(format!("a {} target has no machines", target.kind())))?;
        Ok(Machines {
            target: target.kind().into(),
            config: machines.config(target.options(), seed.0),
            facts: target.facts().clone(),
            names: target.facts().names(),
            policy,
        })
    }

    fn name(&self, node: NodeId) -> Host {
        self.names.get(usize::from(node.0)).cloned().unwrap_or_else(|| node.to_smolstr())
    }

    fn report(&self, node: usize, status: Status) -> NodeReport {
        NodeReport {
            node: self.name(NodeId(node as u16)),
            role: Some(status.role.to_smolstr()),
            leads: status.role.leads(),
            term: Some(status.term),
            leader: status.leader.map(|leader| self.name(leader)),
            index: Some(status.commit_index),
            digest: Some(status.digest),
        }
    }
}

fn socket_addresses(addresses: &[Ipv4Addr], port: u16) -> Vec<SocketAddr> {
    addresses.iter().map(|address| SocketAddr::from((*address, port))).collect()
}

/// A process of this same program with a JSON configuration and a control channel at descriptor 3.
fn process(command: &str, config: &impl serde::Serialize) -> Result<ProcessPlan, TargetError> {
    let config = serde_json::to_string(config).map_err(|e| TargetError(format!("can't configure {command}: {e}")))?;
    Ok(ProcessPlan { args: vec![command.into(), "--config".into(), config.into(), "--control-fd".into(), "3".into()] })
}

/// A control message as bytes. Ours are plain data of bounded size, which postcard always takes.
fn payload(message: &impl serde::Serialize) -> Vec<u8> {
    postcard::to_allocvec(message).expect("plain data can be encoded")
}

fn decode<T: serde::de::DeserializeOwned>(frame: &[u8]) -> Result<T, TargetError> {
    postcard::from_bytes(frame).map_err(|e| TargetError(format!("a control frame of {} bytes: {e}", frame.len())))
}

impl Target for Machines {
    fn node(&self, node: usize, addresses: &[Ipv4Addr], data_dir: &Path) -> Result<ProcessPlan, TargetError> {
        let peers = socket_addresses(&addresses[..self.names.len()], PEER_PORT);
        let http_peers = socket_addresses(&addresses[..self.names.len()], HTTP_PORT);
        process(
            "node",
            &NodeConfig {
                id: NodeId(node as u16),
                // Its addresses may change.
                cluster: Some(self.target.to_string()),
                http: http_peers[node],
                peers,
                http_peers,
                data_dir: data_dir.to_path_buf(),
                target: self.target.to_string(),
                config: self.config.clone(),
            },
        )
    }

    fn client_host(&self, addresses: &[Ipv4Addr]) -> Result<ProcessPlan, TargetError> {
        let nodes = socket_addresses(&addresses[..self.names.len()], HTTP_PORT);
        process("client", &ClientHostConfig { nodes, policy: self.policy })
    }

    fn node_message(&self, node: usize, frame: &[u8]) -> Result<Option<NodeMessage>, TargetError> {
        Ok(match decode::<Report>(frame)? {
            Report::Ready => Some(NodeMessage::Ready),
            Report::Status { status, .. } | Report::Observation(Observation::Status(status)) => {
                Some(NodeMessage::Report(self.report(node, status)))
            }
            Report::Observation(Observation::Committed { index, digest }) => Some(NodeMessage::Report(NodeReport {
                node: self.name(NodeId(node as u16)),
                role: None,
                leads: false,
                term: None,
                leader: None,
                index: Some(index),
                digest: Some(digest),
            })),
            Report::Observation(Observation::Fact { what, value }) => {
                Some(NodeMessage::Fact(Fact { node: self.name(NodeId(node as u16)), what, value }))
            }
            Report::Fence { node } => Some(NodeMessage::Fence(usize::from(node.0))),
        })
    }

    fn moved(&self, node: usize, addresses: &[Ipv4Addr]) -> Option<Moved> {
        let (id, address) = (NodeId(node as u16), *addresses.get(node)?);
        let [peer, http] = [PEER_PORT, HTTP_PORT].map(|port| SocketAddr::from((address, port)));
        Some(Moved {
            for_nodes: payload(&Order::Moved { node: id, peer, http }),
            for_clients: payload(&Command::Moved { node: id, address: http }),
        })
    }

    fn fenced(&self, node: usize) -> Vec<u8> {
        payload(&Order::Fenced { node: NodeId(node as u16) })
    }

    fn invoke(&self, call: u64, process: Process, sequence: u64, op: &Op, first: usize) -> Vec<u8> {
        let who = Asker { client: process.0, sequence };
        payload(&Command::Perform { call, who, op: op.clone(), first: NodeId(first as u16) })
    }

    fn resource_answer(&self, call: u64, refused: Option<&str>) -> Vec<u8> {
        payload(&Command::ResourceAnswer { call, refused: refused.map(SmolStr::from) })
    }

    fn client_report(&self, frame: &[u8]) -> Result<ClientReport, TargetError> {
        let by_itself = |call, error: Option<SmolStr>| ClientReport::Done {
            call,
            outcome: if error.is_some() { Outcome::Fail } else { Outcome::Ok },
            result: Value::Nil,
            error,
            node: None,
            term: None,
        };
        Ok(match decode::<Completion>(frame)? {
            Completion::Called { call, outcome } => {
                let Ended { outcome, result, error, node, term } = outcome.into();
                let node = node.map(|node| usize::from(node.0));
                ClientReport::Done { call, outcome, result, error, node, term }
            }
            Completion::Refused { call, error } => by_itself(call, Some(error)),
            Completion::Written { call, refused } => by_itself(call, refused),
            Completion::Write { call, lock, token } => ClientReport::ResourceWrite { call, lock, token },
        })
    }

    fn sticky(&self) -> bool {
        self.facts.sticky
    }

    fn has_log(&self) -> bool {
        self.facts.has_log
    }
}
