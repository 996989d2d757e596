//! Requests and answers on their way between client hosts and nodes, as over HTTP connections that
//! are kept and used again.

use crate::event::{ClientInput, Event, NodeInput};
use crate::fleet::Held;
use crate::harms::Fate;
use crate::network::{CONNECT, RESEND_CLIENT};
use crate::seat::Seat;
use crate::state::Running;

impl Running<'_> {
    /// Sends an attempt's request to a node.
    pub(crate) fn ask(&mut self, seat: u32, node: usize, within: u64) {
        let nodes = self.plan.nodes.len();
        let state = &mut self.s.seats[seat as usize];
        let (client, attempt) = (state.client, state.attempt);
        let Some(doing) = &mut state.doing else { return };
        doing.waiting = true;
        let host = nodes + client;
        let (forth, back) = (self.s.links.open(host, node), self.s.links.open(node, host));
        let (up, life) = (self.s.nodes[node].up(), self.s.nodes[node].life);
        let idle = &mut self.s.idle[client * nodes + node];
        let kept = idle.count > 0 && ((up && idle.life == life) || !(forth && back));
        if kept {
            idle.count -= 1;
            let life = idle.life;
            let Some(request) = self.asked(seat, node, life) else { return };
            return self.send_request_again(node as u16, seat, attempt, life, 0, request);
        }
        // The host has told of every connection to an earlier life that it is gone.
        idle.count = 0;
        let gives_up = within.min(CONNECT);
        if !self.s.links.passes(host, node) || !back {
            return self.after(gives_up, Event::Client { seat, attempt, input: ClientInput::NotSent });
        }
        let way = self.latency(host, node);
        let fate = self.meet_handshake(host, node);
        if fate.reset {
            return self.after(2 * way, Event::Client { seat, attempt, input: ClientInput::NotSent });
        }
        // A handshake that was lost is repeated after a second.
        if fate.lost || 2 * way + fate.later > gives_up {
            return self.after(gives_up, Event::Client { seat, attempt, input: ClientInput::NotSent });
        }
        if !up {
            return self.after(2 * way, Event::Client { seat, attempt, input: ClientInput::NotSent });
        }
        let Some(request) = self.asked(seat, node, life) else { return };
        if !self.s.nodes[node].wants.connects() {
            // The host takes the connection and the request, and the process never sees them.
            return self.fleet.free(request);
        }
        // There, back, and there again: the connection is made first.
        let made = 2 * way + fate.later;
        let link = self.s.links.link(host, node);
        let number = if self.s.links.harms.none() { 0 } else { self.s.links.number(link) };
        let fate = self.meet(link, number, Some(&request));
        if fate.reset || fate.damaged {
            self.fleet.free(request);
            return self.client_lost(seat, attempt, made + 2 * way);
        }
        if fate.lost {
            let resend = Event::Resend { to: node as u16, seat, attempt, life, tries: 1, request };
            return self.after(made + RESEND_CLIENT[0], resend);
        }
        let input = NodeInput::Request { life, seat, attempt, request };
        self.after(made + way + fate.later, Event::Node { node: node as u16, input });
    }

    /// There is a connection to a life of a node. Returns what is to be sent on it.
    fn asked(&mut self, seat: u32, node: usize, life: u32) -> Option<Held> {
        let doing = self.s.seats[seat as usize].doing.as_mut()?;
        doing.asked = Some((node, life));
        Some(self.fleet.copy(doing.request.as_ref()?))
    }

    /// A request leaves on a connection. If the link is cut, the system sends it again after a
    /// while, even if the client has given it up by then.
    pub(crate) fn send_request_again(&mut self, to: u16, seat: u32, attempt: u32, life: u32, tries: u8, request: Held) {
        let host = self.plan.nodes.len() + self.s.seats[seat as usize].client;
        if self.s.links.passes(host, usize::from(to)) {
            let (takes, fate) = self.travel(host, usize::from(to), &request);
            if fate.reset || fate.damaged {
                // Damage is found out by a checksum, and the connection is closed.
                self.fleet.free(request);
                return self.client_lost(seat, attempt, 2 * takes);
            }
            if !fate.lost {
                let input = NodeInput::Request { life, seat, attempt, request };
                return self.after(takes, Event::Node { node: to, input });
            }
        }
        if let Some(pause) = resend_pause(tries) {
            self.after(pause, Event::Resend { to, seat, attempt, life, tries: tries + 1, request });
        } else {
            self.fleet.free(request);
        }
    }

    /// How long something takes to travel between a client host and a node, and what it meets.
    fn travel(&mut self, from: usize, to: usize, what: &Held) -> (u64, Fate) {
        let takes = self.latency(from, to);
        if self.s.links.harms.none() {
            return (takes, Fate::default());
        }
        let link = self.s.links.link(from, to);
        let number = self.s.links.number(link);
        let fate = self.meet(link, number, Some(what));
        (takes + fate.later, fate)
    }

    /// An answer leaves on a connection; likewise.
    pub(crate) fn send_answer(&mut self, from: u16, seat: u32, attempt: u32, tries: u8, response: Held) {
        // Nobody waits for an answer to an attempt that was given up: its connection is closed.
        let waiting = |seat: &&Seat| seat.attempt & 0xffff == attempt & 0xffff;
        let Some(state) = self.s.seats.get(seat as usize).filter(waiting) else {
            return self.fleet.free(response);
        };
        let (client, attempt) = (state.client, state.attempt);
        let host = self.plan.nodes.len() + client;
        if self.s.links.passes(usize::from(from), host) {
            let (takes, fate) = self.travel(usize::from(from), host, &response);
            if fate.reset || fate.damaged {
                self.fleet.free(response);
                return self.client_lost(seat, attempt, takes);
            }
            if !fate.lost {
                return self.after(takes, Event::Client { seat, attempt, input: ClientInput::Answer(response) });
            }
        }
        if let Some(pause) = resend_pause(tries) {
            self.after(pause, Event::ResendAnswer { from, seat, attempt, tries: tries + 1, response });
        } else {
            self.fleet.free(response);
        }
    }

    /// A request has reached a host where no process (or another one) is: its connection is reset.
    pub(crate) fn refuse_connection(&mut self, node: u16, seat: u32, attempt: u32) {
        let host = self.plan.nodes.len() + self.s.seats[seat as usize].client;
        if self.s.links.passes(usize::from(node), host) {
            let takes = self.latency(usize::from(node), host);
            self.client_lost(seat, attempt, takes);
        }
    }

    /// A node's process is gone: those who wait for its answers hear of it, if they can.
    pub(crate) fn reset_attempts(&mut self, node: u16) {
        for seat in 0..self.s.seats.len() {
            let state = &self.s.seats[seat];
            let asked = state.doing.as_ref().and_then(|doing| doing.asked);
            if asked.is_some_and(|(asked, _)| asked == usize::from(node)) {
                self.refuse_connection(node, seat as u32, state.attempt);
            }
        }
    }

    fn client_lost(&mut self, seat: u32, attempt: u32, after: u64) {
        self.after(after, Event::Client { seat, attempt, input: ClientInput::Lost });
    }
}

/// How long until a packet is sent again that has been sent so often.
fn resend_pause(tries: u8) -> Option<u64> {
    let at = *RESEND_CLIENT.get(usize::from(tries))?;
    let before = tries.checked_sub(1).map_or(0, |before| RESEND_CLIENT[usize::from(before)]);
    Some(at - before)
}
