//! The bundled cluster as a target: its operations and observations in the words of a history.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use duress_checkers::mutex::LockOp;
use duress_driver::NodeConfig;
use duress_driver::client_host::{ClientHostConfig, Command, Completion};
use duress_driver::control::{Order, Report};
use duress_history::{NodeReport, Op, Outcome, Process, Value};
use duress_kv::api;
use duress_kv::config::Config;
use duress_machine::client::Policy;
use duress_machine::{NodeId, Observation, Status};
use duress_plug::Facts;
use duress_run::{ClientReport, Moved, NodeMessage, ProcessPlan, Target, TargetError};
use smol_str::{SmolStr, ToSmolStr};
use std::time::Duration;

use crate::service;

/// Node-to-node traffic.
const PEER_PORT: u16 = 7400;
/// The client API.
const HTTP_PORT: u16 = 8400;

/// The bundled service in one mode.
pub(crate) struct Bundled {
    config: Config,
    facts: Facts,
    nodes: usize,
    policy: Policy,
}

impl Bundled {
    pub(crate) fn new(config: Config, facts: Facts, policy: Policy) -> Bundled {
        Bundled { config, nodes: facts.nodes().into(), facts, policy }
    }

    fn name(node: NodeId) -> SmolStr {
        node.to_smolstr()
    }

    fn report(node: usize, status: Status) -> NodeReport {
        NodeReport {
            node: Self::name(NodeId(node as u16)),
            role: Some(status.role.to_smolstr()),
            leads: status.role.leads(),
            term: Some(status.term),
            leader: status.leader.map(Self::name),
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

impl Target for Bundled {
    fn node(&self, node: usize, addresses: &[Ipv4Addr], data_dir: &Path) -> Result<ProcessPlan, TargetError> {
        let peers = socket_addresses(&addresses[..self.nodes], PEER_PORT);
        let http_peers = socket_addresses(&addresses[..self.nodes], HTTP_PORT);
        process(
            "node",
            &NodeConfig {
                id: NodeId(node as u16),
                // Its addresses may change.
                cluster: Some("bundled".into()),
                http: http_peers[node],
                peers,
                http_peers,
                data_dir: data_dir.to_path_buf(),
                target: self.config.clone(),
            },
        )
    }

    fn client_host(&self, addresses: &[Ipv4Addr]) -> Result<ProcessPlan, TargetError> {
        let nodes = socket_addresses(&addresses[..self.nodes], HTTP_PORT);
        process("client", &ClientHostConfig { nodes, policy: self.policy })
    }

    fn node_message(&self, node: usize, frame: &[u8]) -> Result<Option<NodeMessage>, TargetError> {
        Ok(match decode::<Report>(frame)? {
            Report::Ready => Some(NodeMessage::Ready),
            Report::Status { status, .. } | Report::Observation(Observation::Status(status)) => {
                Some(NodeMessage::Report(Self::report(node, status)))
            }
            Report::Observation(Observation::Committed { index, digest }) => Some(NodeMessage::Report(NodeReport {
                node: Self::name(NodeId(node as u16)),
                role: None,
                leads: false,
                term: None,
                leader: None,
                index: Some(index),
                digest: Some(digest),
            })),
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
        if let (Some(lock), Some(LockOp::Access { token, work_ms })) = (op.key_text(), LockOp::of(op)) {
            let work = Duration::from_millis(work_ms);
            return payload(&Command::Access { call, lock: lock.clone(), token, work });
        }
        let op = service::asked(op).expect("every other operation asks a node");
        let request = api::Request { client: api::ClientId(process.0), sequence, op };
        payload(&Command::Call { call, request, first: NodeId(first as u16) })
    }

    fn resource_answer(&self, call: u64, accepted: bool) -> Vec<u8> {
        payload(&Command::ResourceAnswer { call, accepted })
    }

    fn client_report(&self, frame: &[u8], op: &dyn Fn(u64) -> Option<Op>) -> Result<ClientReport, TargetError> {
        let done = |call, outcome, result, error: Option<SmolStr>, by: Option<&api::Response>| ClientReport::Done {
            call,
            outcome,
            result,
            error,
            node: by.map(|response| usize::from(response.node.0)),
            term: by.map(|response| response.term),
        };
        Ok(match decode::<Completion>(frame)? {
            Completion::Called { call, outcome } => {
                use duress_driver::client_host::CallOutcome::{Failed, Ok, Unknown};
                match outcome {
                    Ok { response } => match op(call).and_then(|op| service::result(&response, &op)) {
                        Some(result) => done(call, Outcome::Ok, result, None, Some(&response)),
                        // An answer to another question: nobody knows what happened to ours.
                        None => done(call, Outcome::Info, Value::Nil, Some("wrong-answer".into()), Some(&response)),
                    },
                    Failed { response } => done(
                        call,
                        Outcome::Fail,
                        Value::Nil,
                        Some(service::reason(response.as_ref(), "unreachable")),
                        response.as_ref(),
                    ),
                    Unknown { response } => done(
                        call,
                        Outcome::Info,
                        Value::Nil,
                        Some(service::reason(response.as_ref(), "timeout")),
                        response.as_ref(),
                    ),
                }
            }
            Completion::AccessRefused { call } => {
                done(call, Outcome::Fail, Value::Nil, Some("lease-expired".into()), None)
            }
            Completion::Accessed { call, accepted: true } => done(call, Outcome::Ok, Value::Nil, None, None),
            Completion::Accessed { call, accepted: false } => {
                done(call, Outcome::Fail, Value::Nil, Some("fenced".into()), None)
            }
            Completion::AccessWrite { call, lock, token } => ClientReport::ResourceWrite { call, lock, token },
        })
    }

    fn sticky(&self) -> bool {
        self.facts.sticky
    }

    fn has_log(&self) -> bool {
        self.facts.has_log
    }
}
