//! What the gateway is called, and how that stands in its server certificate.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv6Addr};

use crate::CaError;

/// More names than any host has: beyond it the certificate would not fit into what small TLS
/// libraries take.
const MOST_ADDRESSES: usize = 24;

/// What the gateway is called: `localhost`, its loopback addresses, the host's name, the same under
/// `.local` as mDNS answers it, the addresses of its network interfaces, and `more`.
pub fn host_names(more: &[String]) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = ["localhost", "127.0.0.1", "::1"]
        .into_iter()
        .map(str::to_owned)
        .collect();
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim().to_ascii_lowercase();
    // A host may be called what no certificate can carry; it is then reached by other names.
    if is_dns_name(&host) {
        if !host.contains('.') {
            names.insert(format!("{host}.local"));
        }
        names.insert(host);
    }
    names.extend(addresses().iter().map(ToString::to_string));
    names.extend(more.iter().map(|name| normal(name)));
    names
}

/// One spelling for each name, as it comes out of a certificate again.
fn normal(name: &str) -> String {
    match name.parse::<IpAddr>() {
        Ok(address) => address.to_string(),
        Err(_) => name.to_ascii_lowercase(),
    }
}

/// The addresses under which others reach this host.
fn addresses() -> BTreeSet<IpAddr> {
    let mut all = BTreeSet::new();
    match nix::ifaddrs::getifaddrs() {
        Ok(interfaces) => {
            for interface in interfaces {
                let address = interface.address;
                if let Some(v4) = address.as_ref().and_then(|a| a.as_sockaddr_in()) {
                    let v4 = v4.ip();
                    if !v4.is_loopback() && !v4.is_unspecified() && !v4.is_link_local() {
                        all.insert(IpAddr::V4(v4));
                    }
                }
            }
        }
        Err(error) => tracing::warn!(%error, "the host's IPv4 addresses cannot be read"),
    }
    // The kernel's own table, because it tells addresses that stay from those that are made up
    // anew each day (RFC 8981). No file: no IPv6.
    let table = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    all.extend(table.lines().filter_map(lasting_v6).map(IpAddr::V6));
    all.into_iter().take(MOST_ADDRESSES).collect()
}

/// The address of a line of `/proc/net/if_inet6` (address, interface, prefix, scope, flags, name; all
/// hexadecimal), if it reaches beyond its link and is neither temporary nor about to go.
fn lasting_v6(line: &str) -> Option<Ipv6Addr> {
    const GLOBAL: u8 = 0x00;
    // IFA_F_TEMPORARY, IFA_F_DADFAILED, IFA_F_DEPRECATED, IFA_F_TENTATIVE of if_addr.h.
    const PASSING: u16 = 0x01 | 0x08 | 0x20 | 0x40;
    let mut fields = line.split_ascii_whitespace();
    let address = u128::from_str_radix(fields.next()?, 16).ok()?;
    let scope = u8::from_str_radix(fields.nth(2)?, 16).ok()?;
    let flags = u16::from_str_radix(fields.next()?, 16).ok()?;
    (scope == GLOBAL && flags & PASSING == 0).then(|| Ipv6Addr::from(address))
}

pub(super) fn is_dns_name(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}

pub(super) fn alternative_name(name: &str) -> Result<rcgen::SanType, CaError> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(rcgen::SanType::IpAddress(address));
    }
    let bad = |reason: String| CaError::BadName {
        name: name.to_owned(),
        reason,
    };
    let plain = name.strip_prefix("*.").unwrap_or(name);
    if !is_dns_name(plain) {
        return Err(bad("not a host name and not an address".into()));
    }
    let text = name
        .try_into()
        .map_err(|e: rcgen::Error| bad(e.to_string()))?;
    Ok(rcgen::SanType::DnsName(text))
}

/// Whether a server certificate can carry this name.
///
/// # Errors
/// Why not.
pub fn check_host_name(name: &str) -> Result<(), CaError> {
    alternative_name(name).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lasting_global_addresses_of_the_kernels_table_count() {
        let line = |address: &str, scope: &str, flags: &str| {
            lasting_v6(&format!("{address} 02 40 {scope} {flags}     eth0"))
        };
        let global = "20010db8000000000000000000000001";
        assert_eq!(
            line(global, "00", "80"),
            Some("2001:db8::1".parse().unwrap_or(Ipv6Addr::LOCALHOST))
        );
        assert_eq!(line(global, "00", "01"), None, "temporary");
        assert_eq!(line(global, "00", "20"), None, "deprecated");
        assert_eq!(line("fe800000000000000000000000000001", "20", "80"), None);
        assert_eq!(line("00000000000000000000000000000001", "10", "80"), None);
        assert_eq!(lasting_v6(""), None);
        assert_eq!(lasting_v6("xyz 02 40 00 80 eth0"), None);
    }
}
