//! What clients of a node see: HTTP and JSON, the same whatever machine it runs.
//!
//! | request | answer |
//! |---|---|
//! | `POST /op` with an operation, such as `{"f": "read", "key": "x"}` | `{"result": …}` |
//! | `GET /status` | what the node says of itself |
//! | `POST /ask` with `{"client": n, "sequence": n, "op": …}` | a [`Reply`], always with code 200: for programs; both with the header `duress-checksum`, a CRC-32 of the body |
//!
//! Operations are those of histories: a name, perhaps a key, perhaps a value. Every answer also names
//! the `node` and, where there are terms, its `term`. An error is `{"error": name, "definite": bool}`;
//! `definite: false` means that nobody knows whether the operation took effect. A node that knows
//! better whom to ask redirects there (307). The headers `duress-client` and `duress-sequence` give a
//! request its identity, so that it can be repeated safely; without them the node makes one up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response as HttpResponse};
use axum::routing::{get, post};
use axum::{Json, Router};
use duress_history::Op;
use duress_machine::client::Disposition;
use duress_machine::{Asker, NodeId, Protocol, Reply};
use duress_seed::Seed;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use nix::sys::socket::{setsockopt, sockopt};
use serde::Deserialize;
use serde_json::{Map, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::addresses::Addresses;
use crate::checksum;
use crate::clock;
use crate::driver::{Call, Snapshot, Wish};

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The longest request body, in bytes.
const MAX_BODY: usize = 1 << 20;

/// How many connections of clients may exist at once.
const MAX_CONNECTIONS: usize = 1024;

/// After this long a machine that has not answered is not waited for any longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Made-up client identities have this bit set, so that they meet no chosen ones below it.
const MADE_UP: u64 = 1 << 63;

/// The way from an HTTP handler to the machine.
#[derive(Debug)]
pub(crate) struct Api<P: Protocol> {
    node: NodeId,
    mode: &'static str,
    peers: Arc<Addresses>,
    calls: mpsc::Sender<Call<P>>,
    wishes: mpsc::Sender<Wish>,
    term: Arc<AtomicU64>,
    /// Makes client identities that no other life of any node makes.
    identities: Seed,
    made_up: AtomicU64,
}

impl<P: Protocol> Api<P> {
    pub(crate) fn new(
        node: NodeId,
        mode: &'static str,
        peers: Arc<Addresses>,
        calls: mpsc::Sender<Call<P>>,
        wishes: mpsc::Sender<Wish>,
        term: Arc<AtomicU64>,
    ) -> Arc<Self> {
        let started = clock::now();
        let life = Seed(started.wall.as_nanos() as u64).decide(&[node.0.into(), started.monotonic.as_nanos() as u64]);
        let identities = Seed(life.bits());
        Arc::new(Api { node, mode, peers, calls, wishes, term, identities, made_up: AtomicU64::new(0) })
    }

    /// Asks the machine. Every way in which no answer comes is told apart by what is known then.
    async fn ask(&self, who: Asker, op: &Op) -> Reply {
        let Some(request) = P::request(who, op) else { return self.refuse(Disposition::Fail, "not-supported") };
        let (reply, answer) = oneshot::channel();
        if self.calls.try_send(Call { request, reply }).is_err() {
            return self.refuse(Disposition::Retry, "unavailable");
        }
        match timeout(PATIENCE, answer).await {
            Ok(Ok(response)) => P::reply(op, &response),
            // The machine had it.
            Ok(Err(_)) | Err(_) => self.refuse(Disposition::Unknown, "unknown"),
        }
    }

    fn refuse(&self, disposition: Disposition, error: &'static str) -> Reply {
        Reply::refused(disposition, error).by(self.node, self.term.load(Ordering::Relaxed))
    }

    /// The request's identity from its headers, or one made up.
    fn asker(&self, headers: &HeaderMap) -> Result<Asker, Bad> {
        let client = number(headers, "duress-client")?;
        let sequence = number(headers, "duress-sequence")?;
        let (client, sequence) = match (client, sequence) {
            (Some(client), Some(sequence)) => (client, sequence),
            // One identity for each request: then none can supersede another.
            (None, None) => {
                let made_up = self.made_up.fetch_add(1, Ordering::Relaxed);
                (self.identities.decide(&[made_up]).bits() | MADE_UP, 1)
            }
            // A lock needs the same client all along, but its requests have no order of their own.
            (Some(client), None) => (client, clock::now().wall.as_nanos() as u64),
            (None, Some(_)) => return Err(Bad("`duress-sequence` needs `duress-client`".into())),
        };
        Ok(Asker { client, sequence })
    }

    /// Runs one operation and puts the answer into HTTP.
    async fn operation(&self, headers: &HeaderMap, uri: &Uri, body: &[u8]) -> HttpResponse {
        let asked = self.asker(headers).and_then(|who| Ok((who, parse::<Op>(body)?)));
        let (who, op) = match asked {
            Ok(asked) => asked,
            Err(bad) => return self.bad(&bad),
        };
        let reply = self.ask(who, &op).await;
        let mut body = Map::new();
        if let Some(node) = reply.node {
            body.insert("node".into(), json!(node.to_string()));
        }
        if let Some(term) = reply.term {
            body.insert("term".into(), json!(term));
        }
        if !reply.result.is_nil() || reply.disposition == Disposition::Ok {
            body.insert("result".into(), json!(reply.result));
        }
        if let Some(error) = &reply.error {
            body.insert("error".into(), json!(error));
            body.insert("definite".into(), json!(reply.disposition != Disposition::Unknown));
        }
        let code = match reply.disposition {
            Disposition::Ok => StatusCode::OK,
            Disposition::Fail if reply.error.as_deref() == Some("not-supported") => StatusCode::NOT_IMPLEMENTED,
            Disposition::Fail => StatusCode::CONFLICT,
            Disposition::Unknown => StatusCode::GATEWAY_TIMEOUT,
            Disposition::Retry => StatusCode::SERVICE_UNAVAILABLE,
            Disposition::Redirect(leader) => {
                body.insert("leader".into(), json!(leader.to_string()));
                if let Some(address) = self.peers.of(leader) {
                    let rest = uri.path_and_query().map_or("/", |rest| rest.as_str());
                    let location = format!("http://{address}{rest}");
                    return (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, location)], Json(body))
                        .into_response();
                }
                StatusCode::SERVICE_UNAVAILABLE
            }
        };
        (code, Json(body)).into_response()
    }

    fn bad(&self, bad: &Bad) -> HttpResponse {
        let body = json!({
            "error": "bad-request",
            "definite": true,
            "message": bad.0,
            "node": self.node.to_string(),
            "term": self.term.load(Ordering::Relaxed),
        });
        (StatusCode::BAD_REQUEST, Json(body)).into_response()
    }

    async fn status(&self) -> HttpResponse {
        let (reply, answer) = oneshot::channel();
        let asked = self.wishes.try_send(Wish::Status(reply)).is_ok();
        let Some(Snapshot { status, reading }) = (if asked { answer.await.ok() } else { None }) else {
            let body =
                json!({ "error": "unavailable", "definite": true, "message": "the node is overloaded or ending" });
            return (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response();
        };
        Json(json!({
            "node": self.node.to_string(),
            "mode": self.mode,
            "role": status.role,
            "term": status.term,
            "leader": status.leader.map(|leader| leader.to_string()),
            "commit_index": status.commit_index,
            "digest": format!("{:016x}", status.digest),
            // Microseconds: they stay below 2^53, where JSON numbers are exact everywhere.
            "wall_us": reading.wall.as_micros() as u64,
            "monotonic_us": reading.monotonic.as_micros() as u64,
            "version": env!("CARGO_PKG_VERSION"),
        }))
        .into_response()
    }
}

/// What is wrong with a request, in words.
#[derive(Debug)]
struct Bad(String);

fn number(headers: &HeaderMap, name: &'static str) -> Result<Option<u64>, Bad> {
    let Some(value) = headers.get(HeaderName::from_static(name)) else { return Ok(None) };
    let number = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    number.map(Some).ok_or_else(|| Bad(format!("the header `{name}` must be a whole number below 2^64")))
}

/// A JSON body or why there is none. The content type doesn't matter: `curl -d` sends its own.
fn parse<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, Bad> {
    serde_json::from_slice(bytes).map_err(|error| Bad(format!("the body is not what is expected here: {error}")))
}

/// What a program asks.
#[derive(Deserialize)]
struct Question {
    #[serde(flatten)]
    who: Asker,
    op: Op,
}

/// The routes of a node.
pub(crate) fn router<P: Protocol>(api: Arc<Api<P>>) -> Router {
    type S<P> = State<Arc<Api<P>>>;

    async fn operation<P: Protocol>(State(api): S<P>, headers: HeaderMap, uri: Uri, body: Bytes) -> HttpResponse {
        api.operation(&headers, &uri, &body).await
    }
    async fn ask<P: Protocol>(State(api): S<P>, headers: HeaderMap, body: Bytes) -> HttpResponse {
        if !checksum::matches(&headers, &body) {
            return api.bad(&Bad("the header `duress-checksum` must be the CRC-32 of the body".into()));
        }
        let Question { who, op } = match parse(&body) {
            Ok(question) => question,
            Err(bad) => return api.bad(&bad),
        };
        let answer = serde_json::to_vec(&api.ask(who, &op).await).unwrap_or_default();
        ([(checksum::CHECKSUM, checksum::of(&answer)), (header::CONTENT_TYPE, JSON)], answer).into_response()
    }
    async fn status<P: Protocol>(State(api): S<P>) -> HttpResponse {
        api.status().await
    }

    Router::new()
        .route("/ask", post(ask::<P>))
        .route("/op", post(operation::<P>))
        .route("/status", get(status::<P>))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(api)
}

/// Serves connections until the process ends.
pub(crate) async fn serve(listener: TcpListener, router: Router) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let service = TowerToHyperService::new(router);
    let protocol = hyper::server::conn::http1::Builder::new();
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!("can't accept a connection of a client: {error}");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        if let Err(error) = set_options(&stream) {
            debug!("a client's connection ended at once: {error}");
            continue;
        }
        let connection = protocol.serve_connection(TokioIo::new(stream), service.clone());
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!("a client's connection ended: {error}");
            }
            drop(place);
        });
    }
}

/// Turns batching by the kernel off, and lets connections to clients that are gone without a
/// word end: their places are few.
fn set_options(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &10)?;
    setsockopt(stream, sockopt::TcpKeepInterval, &5)?;
    setsockopt(stream, sockopt::TcpKeepCount, &4)?;
    setsockopt(stream, sockopt::TcpUserTimeout, &30_000)?;
    Ok(())
}
