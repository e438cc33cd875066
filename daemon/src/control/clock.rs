//! The gateway's clock.

use iotedge_ports::Clock as _;

use crate::ctl::protocol::{ClockInfo, Reply};
use crate::house::Rooms;

pub(super) fn show(rooms: &Rooms) -> Reply {
    let now = rooms.clock.now();
    Reply::ok(&ClockInfo {
        time: now.wall,
        trusted: now.trusted,
        basis: rooms.clock.basis().as_str().to_owned(),
        last_known_time: rooms.clock.floor(),
    })
}

pub(super) fn trust(rooms: &Rooms) -> Reply {
    rooms.clock.confirm();
    show(rooms)
}
