//! Names of users and groups, for messages only.

/// `postgres (101)`, or the number alone when it has no name here (another container's user).
pub(crate) fn user(uid: u32) -> String {
    named("/etc/passwd", uid)
}

pub(crate) fn group(gid: u32) -> String {
    named("/etc/group", gid)
}

fn named(database: &str, id: u32) -> String {
    let text = std::fs::read_to_string(database).unwrap_or_default();
    lookup(&text, id).map_or_else(|| id.to_string(), |name| format!("{name} ({id})"))
}

/// Both files have `name:password:id:…` lines.
fn lookup(text: &str, id: u32) -> Option<&str> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let found: u32 = fields.nth(1)?.parse().ok()?;
        (found == id).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_get_their_names_where_there_is_one() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\npostgres:x:101:103::/:/bin/sh\n";
        assert_eq!(lookup(passwd, 101), Some("postgres"));
        assert_eq!(lookup(passwd, 103), None);
        assert_eq!(user(4_000_000_000), "4000000000");
    }
}
