//! What clients of a node see: HTTP and JSON.
//!
//! | request | answer |
//! |---|---|
//! | `GET /kv/{key}` | `{"value": "…" or null}` |
//! | `PUT /kv/{key}` with `{"value": "…"}` | `{}` |
//! | `POST /kv/{key}/cas` with `{"from": "…" or null, "to": "…"}` | `{}` |
//! | `GET /kv?prefix=x` | `{"entries": {…}}`, as this node knows them |
//! | `POST /locks/{name}/acquire` with `{"lease_ms": n}` | `{"token": n}` |
//! | `POST /locks/{name}/renew` with `{"token": n, "lease_ms": n}` | `{}` |
//! | `POST /locks/{name}/release` with `{"token": n}` | `{}` |
//! | `GET /status` | what the node says of itself |
//! | `POST /rpc` with a [`Request`] | a [`Response`], always with code 200: for programs; both with the header `duress-checksum`, a CRC-32 of the body |
//!
//! Every answer also names the `node` and its `term`. An error is
//! `{"error": name, "definite": bool, "message": words}`, with `leader` where one is known;
//! `definite: false` means that nobody knows whether the operation took effect. A node that does
//! not lead redirects (307) to the one that does. The headers `duress-client` and
//! `duress-sequence` give a request its identity, so that it can be repeated safely; without them
//! the node makes one up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response as HttpResponse};
use axum::routing::{get, post};
use axum::{Json, Router};
use duress_kv::api::{ClientId, Op, Refusal, Reply, Request, Response, Token};
use duress_machine::NodeId;
use duress_seed::Seed;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use nix::sys::socket::{setsockopt, sockopt};
use serde::Deserialize;
use serde_json::{Map, Value, json};
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
pub(crate) struct Api<C> {
    node: NodeId,
    mode: &'static str,
    peers: Arc<Addresses>,
    calls: mpsc::Sender<C>,
    wishes: mpsc::Sender<Wish>,
    term: Arc<AtomicU64>,
    /// Makes client identities that no other life of any node makes.
    identities: Seed,
    made_up: AtomicU64,
}

/// A queued request, whatever the machine's type.
pub(crate) trait Queued: Send + 'static {
    /// Puts a request together with where its answer goes.
    fn new(request: Request, reply: oneshot::Sender<Response>) -> Self;
}

impl<M: duress_machine::Machine<Request = Request, Response = Response>> Queued for Call<M> {
    fn new(request: Request, reply: oneshot::Sender<Response>) -> Self {
        Call { request, reply }
    }
}

impl<C: Queued> Api<C> {
    pub(crate) fn new(
        node: NodeId,
        mode: &'static str,
        peers: Arc<Addresses>,
        calls: mpsc::Sender<C>,
        wishes: mpsc::Sender<Wish>,
        term: Arc<AtomicU64>,
    ) -> Arc<Self> {
        let started = clock::now();
        let life = Seed(started.wall.as_nanos() as u64).decide(&[node.0.into(), started.monotonic.as_nanos() as u64]);
        let identities = Seed(life.bits());
        Arc::new(Api { node, mode, peers, calls, wishes, term, identities, made_up: AtomicU64::new(0) })
    }

    /// Asks the machine. Every way in which no answer comes is told apart by what is known then.
    async fn ask(&self, request: Request) -> Response {
        let (reply, answer) = oneshot::channel();
        if self.calls.try_send(C::new(request, reply)).is_err() {
            return self.refuse(Refusal::Unavailable);
        }
        match timeout(PATIENCE, answer).await {
            Ok(Ok(response)) => response,
            // The machine had it.
            Ok(Err(_)) | Err(_) => self.refuse(Refusal::Unknown),
        }
    }

    fn refuse(&self, refusal: Refusal) -> Response {
        Response { node: self.node, term: self.term.load(Ordering::Relaxed), result: Err(refusal) }
    }

    /// The request's identity from its headers, or one made up.
    fn request(&self, headers: &HeaderMap, op: Op) -> Result<Request, Bad> {
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
        Ok(Request { client: ClientId(client), sequence, op })
    }

    /// Runs one operation and puts the answer into HTTP.
    async fn operation(&self, headers: &HeaderMap, uri: &Uri, op: Result<Op, Bad>) -> HttpResponse {
        let request = match op.and_then(|op| self.request(headers, op)) {
            Ok(request) => request,
            Err(bad) => return self.bad(&bad),
        };
        let response = self.ask(request).await;
        let mut body = Map::new();
        body.insert("node".into(), json!(response.node.to_string()));
        body.insert("term".into(), json!(response.term));
        match response.result {
            Ok(reply) => {
                match reply {
                    Reply::Value(value) => body.insert("value".into(), json!(value)),
                    Reply::Entries(entries) => {
                        let entries = entries.into_iter().map(|(k, v)| (k.to_string(), json!(v))).collect();
                        body.insert("entries".into(), Value::Object(entries))
                    }
                    Reply::Granted(token) => body.insert("token".into(), json!(token)),
                    Reply::Done => None,
                };
                (StatusCode::OK, Json(body)).into_response()
            }
            Err(refusal) => self.refusal(&refusal, body, uri),
        }
    }

    fn refusal(&self, refusal: &Refusal, mut body: Map<String, Value>, uri: &Uri) -> HttpResponse {
        let (code, message) = explain(refusal);
        body.insert("error".into(), json!(refusal.name()));
        body.insert("definite".into(), json!(refusal.is_definite()));
        body.insert("message".into(), json!(message));
        if let Refusal::CasMismatch { actual } = refusal {
            body.insert("actual".into(), json!(actual));
        }
        if let Refusal::NotLeader { leader: Some(leader) } = refusal {
            body.insert("leader".into(), json!(leader.to_string()));
            if let Some(address) = self.peers.of(*leader) {
                let rest = uri.path_and_query().map_or("/", |rest| rest.as_str());
                let location = format!("http://{address}{rest}");
                return (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, location)], Json(body)).into_response();
            }
        }
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

impl From<QueryRejection> for Bad {
    fn from(rejection: QueryRejection) -> Self {
        Bad(rejection.body_text())
    }
}

fn number(headers: &HeaderMap, name: &'static str) -> Result<Option<u64>, Bad> {
    let Some(value) = headers.get(HeaderName::from_static(name)) else { return Ok(None) };
    let number = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    number.map(Some).ok_or_else(|| Bad(format!("the header `{name}` must be a whole number below 2^64")))
}

/// A refusal's code and words.
fn explain(refusal: &Refusal) -> (StatusCode, &'static str) {
    match refusal {
        Refusal::NotLeader { leader: Some(_) } => {
            (StatusCode::SERVICE_UNAVAILABLE, "this node does not lead; ask the leader")
        }
        Refusal::NotLeader { leader: None } => {
            (StatusCode::SERVICE_UNAVAILABLE, "this node does not lead and knows of no leader; try again")
        }
        Refusal::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "this node can't serve now; try again"),
        Refusal::CasMismatch { .. } => (StatusCode::CONFLICT, "the key holds something else"),
        Refusal::LockHeld => (StatusCode::CONFLICT, "somebody else holds the lock"),
        Refusal::NotHolder => (StatusCode::CONFLICT, "the token is not the present holder's, or its lease has run out"),
        Refusal::NotSupported => (StatusCode::NOT_IMPLEMENTED, "this mode does not have this operation"),
        Refusal::Superseded => (StatusCode::CONFLICT, "a later request of this client has been seen"),
        Refusal::Unknown => {
            (StatusCode::GATEWAY_TIMEOUT, "the operation was begun; whether it takes effect is unknown")
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Prefix {
    #[serde(default)]
    prefix: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Put {
    value: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Swap {
    from: Option<String>,
    to: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Acquire {
    lease_ms: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Renew {
    token: u64,
    lease_ms: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Release {
    token: u64,
}

/// A JSON body or why there is none. The content type doesn't matter: `curl -d` sends its own.
type Body<T> = Result<T, Bad>;

fn parse<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Body<T> {
    serde_json::from_slice(bytes).map_err(|error| Bad(format!("the body is not what is expected here: {error}")))
}

/// The routes of a node.
pub(crate) fn router<C: Queued>(api: Arc<Api<C>>) -> Router {
    use axum::body::Bytes;
    type S<C> = State<Arc<Api<C>>>;

    async fn read<C: Queued>(State(api): S<C>, Path(key): Path<String>, headers: HeaderMap, uri: Uri) -> HttpResponse {
        api.operation(&headers, &uri, Ok(Op::Read { key: key.into() })).await
    }
    async fn write<C: Queued>(
        State(api): S<C>,
        Path(key): Path<String>,
        headers: HeaderMap,
        uri: Uri,
        body: Bytes,
    ) -> HttpResponse {
        let op = parse(&body).map(|Put { value }| Op::Write { key: key.into(), value: value.into() });
        api.operation(&headers, &uri, op).await
    }
    async fn cas<C: Queued>(
        State(api): S<C>,
        Path(key): Path<String>,
        headers: HeaderMap,
        uri: Uri,
        body: Bytes,
    ) -> HttpResponse {
        let op = parse(&body).map(|Swap { from, to }| Op::Cas {
            key: key.into(),
            from: from.map(Into::into),
            to: to.into(),
        });
        api.operation(&headers, &uri, op).await
    }
    async fn scan<C: Queued>(
        State(api): S<C>,
        headers: HeaderMap,
        uri: Uri,
        query: Result<Query<Prefix>, QueryRejection>,
    ) -> HttpResponse {
        let op = query.map_err(Bad::from).map(|Query(Prefix { prefix })| Op::Scan { prefix: prefix.into() });
        api.operation(&headers, &uri, op).await
    }
    async fn lock<C: Queued>(
        State(api): S<C>,
        Path((name, what)): Path<(String, String)>,
        headers: HeaderMap,
        uri: Uri,
        body: Bytes,
    ) -> HttpResponse {
        let lock = name.into();
        let op = match what.as_str() {
            "acquire" => parse(&body).map(|Acquire { lease_ms }| Op::Acquire { lock, lease: millis(lease_ms) }),
            "renew" => parse(&body).map(|Renew { token, lease_ms }| Op::Renew {
                lock,
                token: Token(token),
                lease: millis(lease_ms),
            }),
            "release" => parse(&body).map(|Release { token }| Op::Release { lock, token: Token(token) }),
            other => Err(Bad(format!("a lock can't `{other}`; it can `acquire`, `renew` and `release`"))),
        };
        api.operation(&headers, &uri, op).await
    }
    async fn rpc<C: Queued>(State(api): S<C>, headers: HeaderMap, body: Bytes) -> HttpResponse {
        if !checksum::matches(&headers, &body) {
            return api.bad(&Bad("the header `duress-checksum` must be the CRC-32 of the body".into()));
        }
        let request = match parse(&body) {
            Ok(request) => request,
            Err(bad) => return api.bad(&bad),
        };
        let answer = serde_json::to_vec(&api.ask(request).await).unwrap_or_default();
        ([(checksum::CHECKSUM, checksum::of(&answer)), (header::CONTENT_TYPE, JSON)], answer).into_response()
    }
    async fn status<C: Queued>(State(api): S<C>) -> HttpResponse {
        api.status().await
    }

    Router::new()
        .route("/rpc", post(rpc::<C>))
        .route("/kv", get(scan::<C>))
        .route("/kv/{key}", get(read::<C>).put(write::<C>))
        .route("/kv/{key}/cas", post(cas::<C>))
        .route("/locks/{name}/{what}", post(lock::<C>))
        .route("/status", get(status::<C>))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(api)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
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
