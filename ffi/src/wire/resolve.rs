//! A host's addresses, in a time that has an end.
//!
//! The system's resolver takes no deadline, and there is no thread here that could wait for it
//! instead: it would outlive the call. But glibc's has its times for each thread apart, in `_res`,
//! where a program may change them: so for this one call it asks each name server once, and all of
//! them together no longer than the deadline allows. Less than a second for a server it does not
//! know. Names that something else than DNS knows (mDNS, for example) take as long as that does.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

/// The addresses of a host.
pub(super) fn addresses(host: &str, port: u16, timeout: Duration) -> io::Result<Vec<SocketAddr>> {
    let _limit = limit::Limit::begin(timeout);
    Ok((host, port).to_socket_addrs()?.collect())
}

#[cfg(target_env = "gnu")]
#[allow(unsafe_code)] // glibc's resolver has no other border
mod limit {
    use std::ffi::{c_int, c_ulong};
    use std::time::Duration;

    /// The beginning of glibc's `struct __res_state`, which is part of its ABI.
    #[repr(C)]
    pub(super) struct State {
        /// Seconds to wait for a name server.
        pub(super) retransmit: c_int,
        /// How often to ask all of them.
        pub(super) attempts: c_int,
        options: c_ulong,
        /// Name servers.
        pub(super) servers: c_int,
    }

    /// It was initialised.
    const INITIALISED: c_ulong = 1;

    unsafe extern "C" {
        fn __res_init() -> c_int;
        fn __res_state() -> *mut State;
    }

    /// This thread's state of the resolver, read from its configuration if it was not yet.
    pub(super) fn state() -> Option<&'static mut State> {
        // SAFETY: glibc gives each thread its own state, which lives as long as the thread; the
        // reference does not leave the thread, nor is there another one while it is in use.
        let state = unsafe { __res_state().as_mut() }?;
        // SAFETY: no precondition.
        if state.options & INITIALISED == 0 && unsafe { __res_init() } != 0 {
            return None;
        }
        Some(state)
    }

    /// Puts the times back when it ends: the program's own look-ups are its own business.
    pub(super) struct Limit(Option<(c_int, c_int)>);

    impl Limit {
        pub(super) fn begin(timeout: Duration) -> Self {
            Self(state().map(|state| {
                let before = (state.retransmit, state.attempts);
                let servers = u64::try_from(state.servers).unwrap_or(1).max(1);
                let share = c_int::try_from(timeout.as_secs() / servers).unwrap_or(c_int::MAX);
                state.retransmit = share.clamp(1, before.0.max(1));
                state.attempts = 1;
                before
            }))
        }
    }

    impl Drop for Limit {
        fn drop(&mut self) {
            if let (Some(before), Some(state)) = (self.0, state()) {
                (state.retransmit, state.attempts) = before;
            }
        }
    }

    /// Lets this thread ask one server on loopback.
    #[cfg(test)]
    pub(super) fn ask_only(port: u16) {
        let state: *mut State = state().unwrap();
        let server = libc::sockaddr_in {
            sin_family: libc::AF_INET as libc::sa_family_t,
            sin_port: port.to_be(),
            sin_addr: libc::in_addr {
                s_addr: u32::from(std::net::Ipv4Addr::LOCALHOST).to_be(),
            },
            sin_zero: [0; 8],
        };
        // SAFETY: glibc's structure goes on with the addresses of its servers, without a gap.
        unsafe {
            (*state).servers = 1;
            let first = (&raw mut (*state).servers).add(1);
            first.cast::<libc::sockaddr_in>().write_unaligned(server);
        }
    }
}

/// Other C libraries have limits of their own, which are not to be changed.
#[cfg(not(target_env = "gnu"))]
mod limit {
    pub(super) struct Limit;

    impl Limit {
        pub(super) fn begin(_timeout: std::time::Duration) -> Self {
            Self
        }
    }
}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use std::net::UdpSocket;
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_name_server_that_does_not_answer_is_waited_for_no_longer_than_the_time_allows() {
        let deaf = UdpSocket::bind("127.0.0.1:0").unwrap();
        deaf.set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        limit::ask_only(deaf.local_addr().unwrap().port());
        let before = limit::state().map(|s| (s.retransmit, s.attempts));
        let start = Instant::now();
        let found = addresses("device.example.", 8883, Duration::from_millis(1500));
        let elapsed = start.elapsed();
        assert!(found.is_err(), "{found:?}");
        assert!(deaf.recv(&mut [0; 512]).is_ok(), "the server was not asked");
        assert!(elapsed < Duration::from_secs(4), "{elapsed:?}");
        let after = limit::state().map(|s| (s.retransmit, s.attempts));
        assert_eq!(before, after, "the times are the program's again");
    }

    #[test]
    fn names_that_need_no_server_are_found() {
        let found = addresses("localhost", 1, Duration::ZERO).unwrap();
        assert!(
            found.iter().all(|address| address.ip().is_loopback()),
            "{found:?}"
        );
    }
}
