//! Messages between nodes on their way.

use duress_machine::NodeId;

use crate::event::{Event, NodeInput};
use crate::fleet::Held;
use crate::harms::{Fate, HEADERS};
use crate::network::{BACKOFF, MAX_WAITING, RESEND, State, UNACKNOWLEDGED};
use crate::plan::Transport;
use crate::state::{Running, about};
use crate::watch::Happening;

impl Running<'_> {
    /// The time until a message that was sent now on a link arrives.
    pub(crate) fn latency(&mut self, from_host: usize, to_host: usize) -> u64 {
        let link = self.s.links.link(from_host, to_host);
        let number = self.s.links.number(link);
        if self.s.links.ordinary(link, number) {
            return self.s.links.takes(link, self.s.links.latency.middle());
        }
        let decision = self.decide(about::LATENCY, self.s.links.key(link), number);
        self.s.links.takes(link, self.s.links.latency.draw(decision))
    }

    /// A node sends a message to another.
    pub(crate) fn send(&mut self, from: usize, to: usize, message: Held) {
        self.s.stats.messages += 1;
        self.show(|fleet| Happening::Sent {
            from: NodeId(from as u16),
            to: NodeId(to as u16),
            message: fleet.show(&message),
        });
        match self.s.links.transport {
            Transport::Stream => self.send_on_connection(from, to, message),
            Transport::Datagram => self.send_datagram(from, to, message),
        }
    }

    /// What harmed links do to a packet; without contents, to one of a handshake.
    #[inline]
    pub(crate) fn meet(&mut self, link: usize, number: u64, contents: Option<&Held>) -> Fate {
        match self.s.links.harms.none() {
            true => Fate::default(),
            false => self.meet_harms(link, number, contents),
        }
    }

    fn meet_harms(&mut self, link: usize, number: u64, contents: Option<&Held>) -> Fate {
        let harms = &self.s.links.harms;
        let size = match contents {
            Some(contents) if harms.weighs(link) => self.fleet.size(contents),
            _ => 0,
        };
        let size = HEADERS.saturating_add(u32::try_from(size).unwrap_or(u32::MAX));
        let (key, now) = (self.s.links.key(link), self.s.now);
        self.s.links.harms.meet(self.s.seed, (link, key), number, size, now)
    }

    /// What they do to a packet that makes a connection.
    pub(crate) fn meet_handshake(&mut self, from: usize, to: usize) -> Fate {
        if self.s.links.harms.none() {
            return Fate::default();
        }
        let [forth, back] = [(from, to), (to, from)].map(|(from, to)| {
            let link = self.s.links.link(from, to);
            let number = self.s.links.number(link);
            self.meet(link, number, None)
        });
        Fate {
            lost: forth.lost || back.lost,
            reset: forth.reset || back.reset,
            later: forth.later + back.later,
            ..Fate::default()
        }
    }

    fn send_datagram(&mut self, from: usize, to: usize, message: Held) {
        if !self.s.links.passes(from, to) {
            return self.lose(from, to, message);
        }
        let network = &self.plan.network;
        let link = self.s.links.link(from, to);
        let number = self.s.links.number(link);
        let fate = self.meet(link, number, Some(&message));
        // A datagram carries a checksum of its own: damage is found out.
        if fate.lost || fate.damaged {
            return self.lose(from, to, message);
        }
        if fate.twice {
            let takes = self.s.links.takes(link, self.s.links.latency.middle()) + fate.later;
            let input = NodeInput::Message { from: from as u16, life: 0, message: self.fleet.copy(&message) };
            self.after(takes, Event::Node { node: to as u16, input });
        }
        if self.s.links.ordinary(link, number) {
            let takes = self.s.links.takes(link, self.s.links.latency.middle()) + fate.later;
            let input = NodeInput::Message { from: from as u16, life: 0, message };
            return self.after(takes, Event::Node { node: to as u16, input });
        }
        let key = self.s.links.key(link);
        if network.loss > 0.0 && self.decide(about::LOSS, key, number).chance(network.loss) {
            return self.lose(from, to, message);
        }
        if network.duplicate > 0.0 && self.decide(about::DUPLICATE, key, number).chance(network.duplicate) {
            let drawn = self.s.links.latency.draw(self.decide(about::AGAIN, key, number));
            let takes = self.s.links.takes(link, drawn) * 2;
            let input = NodeInput::Message { from: from as u16, life: 0, message: self.fleet.copy(&message) };
            self.after(takes, Event::Node { node: to as u16, input });
        }
        let drawn = self.s.links.latency.draw(self.decide(about::LATENCY, key, number));
        let mut takes = self.s.links.takes(link, drawn) + fate.later;
        if network.reorder > 0.0 {
            let decision = self.decide(about::REORDER, key, number);
            if decision.chance(network.reorder) {
                let most = u64::try_from(network.reorder_by.as_nanos()).unwrap_or(u64::MAX >> 8);
                // What decided that it is held up is spent; the rest of the bits say for how long.
                takes += decision.bits().wrapping_mul(0x9e37_79b9_7f4a_7c15) % (most + 1);
            }
        }
        let input = NodeInput::Message { from: from as u16, life: 0, message };
        self.after(takes, Event::Node { node: to as u16, input });
    }

    /// A message is lost.
    fn lose(&mut self, from: usize, to: usize, message: Held) {
        self.fleet.free(message);
        self.lost(from, to, 1);
    }

    /// Messages are lost, which are freed already.
    fn lost(&mut self, from: usize, to: usize, messages: usize) {
        self.s.stats.dropped += messages as u64;
        self.show(|_| Happening::Lost { from: NodeId(from as u16), to: NodeId(to as u16), messages });
    }

    fn send_on_connection(&mut self, from: usize, to: usize, message: Held) {
        let at = self.s.links.connection(from, to);
        match self.s.links.connections[at].state {
            State::Up => {
                if !self.s.links.passes(from, to) {
                    return self.stall(at, Some(message));
                }
                let peer = &self.s.nodes[to];
                let whole = peer.up() && peer.life == self.s.links.connections[at].life;
                let acknowledged = self.s.links.open(to, from);
                match (whole, acknowledged) {
                    (true, true) => self.deliver(from, to, message),
                    (true, false) => {
                        self.deliver(from, to, message);
                        if self.s.links.connections[at].state == State::Up {
                            self.stall(at, None);
                        }
                    }
                    // The host answers for the process that is gone: there is no such connection.
                    (false, true) => {
                        self.lose(from, to, message);
                        self.break_connection(at);
                    }
                    (false, false) => self.stall(at, Some(message)),
                }
            }
            State::Stalled { .. } => {
                if self.s.links.connections[at].deaf && self.s.links.passes(from, to) {
                    self.deliver(from, to, message);
                } else {
                    self.s.links.connections[at].waiting.push_back(message);
                }
            }
            State::Down { .. } => {
                let full = self.s.links.connections[at].waiting.len() >= MAX_WAITING;
                let dropped = if full { self.drop_waiting(at) } else { 0 };
                self.s.links.connections[at].waiting.push_back(message);
                if dropped > 0 {
                    self.lost(from, to, dropped);
                }
            }
        }
    }

    /// Sends a message on a connection that carries it, unless the link is harmed otherwise. What is
    /// lost is sent again, as what meets a cut; and everything behind it waits.
    fn deliver(&mut self, from: usize, to: usize, message: Held) {
        let link = self.s.links.link(from, to);
        let number = self.s.links.number(link);
        let (key, ordinary) = (self.s.links.key(link), self.s.links.ordinary(link, number));
        let drawn = match ordinary {
            true => self.s.links.latency.middle(),
            false => self.s.links.latency.draw(self.decide(about::LATENCY, key, number)),
        };
        let at = self.s.links.connection(from, to);
        let fate = self.meet(link, number, Some(&message));
        // Resets are sent for what goes either way, and everything sent is acknowledged.
        let back = self.s.links.link(to, from);
        if fate.reset || self.s.links.harms.resets(back) || fate.damaged {
            // A damaged frame ends the stream that it is on.
            self.lose(from, to, message);
            return self.break_connection(at);
        }
        if fate.lost {
            return self.lose_packet(at, message);
        }
        self.s.links.connections[at].losing_since = None;
        let mut takes = self.s.links.takes(link, drawn) + fate.later;
        let loss = self.plan.network.loss;
        if loss > 0.0 && !ordinary && self.decide(about::LOSS, key, number).chance(loss) {
            takes += RESEND[0];
        }
        let connection = &mut self.s.links.connections[at];
        let arrives = (self.s.now + takes).max(connection.last_arrival);
        connection.last_arrival = arrives;
        let input = NodeInput::Message { from: from as u16, life: connection.life, message };
        self.at(arrives, Event::Node { node: to as u16, input });
    }

    /// From now on nothing that is sent on the connection is acknowledged.
    fn stall(&mut self, at: usize, message: Option<Held>) {
        let now = self.s.now;
        let connection = &mut self.s.links.connections[at];
        connection.state = State::Stalled { since: now, resends: 0 };
        connection.deaf = message.is_none();
        connection.epoch += 1;
        connection.waiting.extend(message);
        let epoch = connection.epoch;
        self.at(now + RESEND[0], Event::Link { link: at as u32, epoch });
    }

    /// A packet was lost: it is sent again later, or the connection is given up.
    fn lose_packet(&mut self, at: usize, message: Held) {
        let now = self.s.now;
        let connection = &mut self.s.links.connections[at];
        connection.waiting.push_front(message);
        let since = *connection.losing_since.get_or_insert(now);
        if now >= since + UNACKNOWLEDGED {
            return self.break_connection(at);
        }
        connection.state = State::Stalled { since, resends: 0 };
        connection.deaf = false;
        connection.epoch += 1;
        let epoch = connection.epoch;
        let next = RESEND.iter().map(|resend| since + resend).find(|next| *next > now);
        self.at(next.unwrap_or(since + UNACKNOWLEDGED), Event::Link { link: at as u32, epoch });
    }

    /// What waits on a connection is dropped. Returns how many messages that were.
    fn drop_waiting(&mut self, at: usize) -> usize {
        let waiting = &mut self.s.links.connections[at].waiting;
        let count = waiting.len();
        waiting.drain(..).for_each(|message| self.fleet.free(message));
        count
    }

    /// The connection is gone, and with it what was in flight.
    fn break_connection(&mut self, at: usize) {
        let now = self.s.now;
        let waiting = self.drop_waiting(at);
        let connection = &mut self.s.links.connections[at];
        connection.state = State::Down { backoff: BACKOFF.0 };
        connection.losing_since = None;
        connection.epoch += 1;
        let epoch = connection.epoch;
        self.at(now + BACKOFF.0, Event::Link { link: at as u32, epoch });
        let (from, to) = self.s.links.ends(at);
        if waiting > 0 {
            self.lost(from, to, waiting);
        }
    }

    /// A connection's time has come: to send again, to be given up, or to be made anew.
    pub(crate) fn look_at_connection(&mut self, at: usize, epoch: u32) {
        let now = self.s.now;
        let (from, to) = self.s.links.ends(at);
        if self.s.links.connections[at].epoch != epoch || !self.s.nodes[from].up() {
            return;
        }
        let forth = self.s.links.passes(from, to);
        let back = self.s.links.open(to, from);
        let peer = &self.s.nodes[to];
        let (peer_up, peer_life) = (peer.up(), peer.life);
        // A process that stands still does not connect.
        let down = matches!(self.s.links.connections[at].state, State::Down { .. });
        let connects = down && forth && back && peer_up && !self.s.nodes[from].stopped && self.connects(from, to);
        match self.s.links.connections[at].state {
            State::Up => {}
            State::Stalled { since, resends } => {
                let same = peer_up && peer_life == self.s.links.connections[at].life;
                match (forth, back) {
                    (true, true) if !same => self.break_connection(at),
                    (true, true) => {
                        self.s.links.connections[at].state = State::Up;
                        self.flush_connection(at, from, to);
                    }
                    _ if now >= since + UNACKNOWLEDGED => {
                        self.s.coverage.count("connection broken", "in flight lost", "");
                        self.break_connection(at);
                    }
                    _ => {
                        if forth && same {
                            self.flush_connection(at, from, to);
                        }
                        let connection = &mut self.s.links.connections[at];
                        if connection.epoch != epoch {
                            return;
                        }
                        connection.deaf = forth;
                        let resends = (resends + 1).min(RESEND.len() as u8 - 1);
                        connection.state = State::Stalled { since, resends };
                        let next = since + RESEND[usize::from(resends)];
                        self.at(next.max(now + 1), Event::Link { link: at as u32, epoch });
                    }
                }
            }
            State::Down { .. } if connects => {
                let fate = self.meet_handshake(from, to);
                if fate.lost || fate.reset {
                    return self.connect_later(at);
                }
                // The handshake takes a way there and back before the first message leaves.
                let takes = self.latency(from, to) + self.latency(to, from) + fate.later;
                let connection = &mut self.s.links.connections[at];
                connection.state = State::Up;
                connection.life = peer_life;
                connection.last_arrival = connection.last_arrival.max(now + takes);
                self.flush_connection(at, from, to);
            }
            State::Down { .. } => self.connect_later(at),
        }
    }

    /// Whether both ends of a connection have a descriptor for it.
    fn connects(&mut self, from: usize, to: usize) -> bool {
        self.s.nodes[from].wants.connects() && self.s.nodes[to].wants.connects()
    }

    /// There is no connection to be had now.
    fn connect_later(&mut self, at: usize) {
        let connection = &mut self.s.links.connections[at];
        let State::Down { backoff } = connection.state else { return };
        connection.state = State::Down { backoff: (backoff * 2).min(BACKOFF.1) };
        let epoch = connection.epoch;
        self.after(backoff, Event::Link { link: at as u32, epoch });
    }

    /// Sends what waits, until something is lost or the connection breaks.
    fn flush_connection(&mut self, at: usize, from: usize, to: usize) {
        let epoch = self.s.links.connections[at].epoch;
        while self.s.links.connections[at].epoch == epoch
            && let Some(message) = self.s.links.connections[at].waiting.pop_front()
        {
            self.deliver(from, to, message);
        }
    }

    /// A node that has just started connects to all others.
    pub(crate) fn connect_node(&mut self, node: usize) {
        if self.s.links.transport == Transport::Datagram {
            return;
        }
        for to in (0..self.s.nodes.len()).filter(|to| *to != node) {
            let at = self.s.links.connection(node, to);
            let connection = &mut self.s.links.connections[at];
            connection.state = State::Down { backoff: BACKOFF.0 };
            connection.epoch += 1;
            let epoch = connection.epoch;
            self.at(self.s.now, Event::Link { link: at as u32, epoch });
        }
    }

    /// A node's process is gone. Its own connections go with it; those of the others break as soon
    /// as they hear of it.
    pub(crate) fn disconnect_node(&mut self, node: usize) {
        if self.s.links.transport == Transport::Datagram {
            return;
        }
        for peer in (0..self.s.nodes.len()).filter(|peer| *peer != node) {
            let own = self.s.links.connection(node, peer);
            self.drop_waiting(own);
            let connection = &mut self.s.links.connections[own];
            connection.state = State::Down { backoff: BACKOFF.0 };
            connection.epoch += 1;
            let theirs = self.s.links.connection(peer, node);
            let heard = self.s.links.open(node, peer) && self.s.nodes[peer].up();
            if heard && !matches!(self.s.links.connections[theirs].state, State::Down { .. }) {
                self.break_connection(theirs);
            }
        }
    }
}
