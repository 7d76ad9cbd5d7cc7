//! One blocking netlink socket to the kernel's routing family. Knows messages, not their meaning.

use std::io;

use parking_lot::Mutex;
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};

/// The socket stays in the network namespace in which it was opened, whichever thread uses it.
pub struct Netlink {
    state: Mutex<State>,
}

struct State {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { state: Mutex::new(State { socket, sequence: 0 }) })
    }

    /// Asks for a change or for one object; `flags` are added to REQUEST and ACK. Returns what came before the acknowledgement.
    pub fn request(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.exchange(message, NLM_F_REQUEST | NLM_F_ACK | flags)
    }

    /// Asks for all objects of a kind.
    pub fn dump(&self, message: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.exchange(message, NLM_F_REQUEST | NLM_F_DUMP)
    }

    fn exchange(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
        let mut state = self.state.lock();
        state.sequence = state.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = state.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let mut buffer = vec![0; request.buffer_len()];
        request.serialize(&mut buffer);
        state.socket.send(&buffer, 0)?;
        let mut answers = Vec::new();
        loop {
            let (datagram, _) = state.socket.recv_from_full()?;
            if read_datagram(&datagram, state.sequence, &mut answers)? {
                return Ok(answers);
            }
        }
    }
}

/// Adds the messages of one datagram to `answers`; true when the answer is complete.
fn read_datagram(mut rest: &[u8], sequence: u32, answers: &mut Vec<RouteNetlinkMessage>) -> io::Result<bool> {
    while rest.len() >= 16 {
        let length = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
        if length < 16 || length > rest.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a netlink message of an impossible length"));
        }
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&rest[..length])
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("a netlink message that cannot be read: {e}")))?;
        rest = &rest[length.next_multiple_of(4).min(rest.len())..];
        // What is left of an earlier request that failed half-way is not the answer to this one.
        if message.header.sequence_number != sequence {
            continue;
        }
        match message.payload {
            NetlinkPayload::Done(_) => return Ok(true),
            NetlinkPayload::Error(error) if error.code.is_none() => return Ok(true),
            NetlinkPayload::Error(error) => return Err(error.to_io()),
            NetlinkPayload::InnerMessage(inner) => answers.push(inner),
            NetlinkPayload::Overrun(_) => return Err(io::Error::other("the kernel dropped netlink messages")),
            _ => {}
        }
    }
    Ok(false)
}
