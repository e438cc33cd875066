//! Who asks by the control socket, in words.

use iotedge_model::{Principal, PrincipalKind};

/// The users of this host.
const USERS: &str = "/etc/passwd";

/// The user's name, where the host has it in a file; else the number.
pub(super) fn asks(principal: &Principal) -> String {
    let PrincipalKind::LocalUser { uid, .. } = principal.kind else {
        return "an operator".into();
    };
    let users = std::fs::read_to_string(USERS).unwrap_or_default();
    name(&users, uid).map_or_else(|| format!("user {uid}"), str::to_owned)
}

/// `name:password:uid:...` (passwd(5)).
fn name(users: &str, uid: u32) -> Option<&str> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_number() {
        let users =
            "root:x:0:0:root:/root:/bin/sh\n\nbroken\n:x:7::\npi:x:1000:1000::/home/pi:/bin/sh\n";
        assert_eq!(name(users, 1000), Some("pi"));
        assert_eq!(name(users, 0), Some("root"));
        assert_eq!(name(users, 7), None);
    }
}
