//! Who runs this process: libpq's defaults for user and home.

use std::path::PathBuf;

/// Name and home of the user of this process, from `/etc/passwd`; `None` where it is not
/// listed there (a container's arbitrary user id, a directory service).
pub(super) fn account() -> Option<(String, PathBuf)> {
    let database = std::fs::read_to_string("/etc/passwd").ok()?;
    find(&database, rustix::process::geteuid().as_raw())
}

fn find(database: &str, uid: u32) -> Option<(String, PathBuf)> {
    database.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, id, _, _, home, ..] = fields[..] else {
            return None;
        };
        let found = id.parse() == Ok(uid);
        found.then(|| (name.to_owned(), PathBuf::from(home)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_of_a_user_id_is_found() {
        let database = "root:x:0:0:root:/root:/bin/sh\nbroken\npostgres:x:101:104::/var/lib/postgresql:/bin/bash\n";
        let found = find(database, 101);
        let home = PathBuf::from("/var/lib/postgresql");
        assert_eq!(found, Some(("postgres".to_owned(), home)));
        assert_eq!(find(database, 7), None);
    }
}
