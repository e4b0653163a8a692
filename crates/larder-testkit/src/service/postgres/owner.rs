//! Whom the server runs as: it refuses to be root.

use std::path::Path;

use rustix::fs::{Gid, Uid, chown};
use rustix::process::geteuid;

/// The user that the server and its files belong to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owner {
    /// `None`: whoever runs the tests.
    other: Option<(u32, u32)>,
}

impl Owner {
    /// This user, or, when that is root, one without rights.
    pub(super) fn find() -> Result<Self, String> {
        if !geteuid().is_root() {
            return Ok(Self { other: None });
        }
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let found = ["postgres", "nobody"].iter().find_map(|name| ids(&users, name));
        match found {
            Some(ids) => Ok(Self { other: Some(ids) }),
            None => Err("postgres refuses to run as root: add a user named postgres".to_owned()),
        }
    }

    /// Makes a folder of this user's.
    pub(super) fn make_folder(self, folder: &Path) -> Result<(), String> {
        let failed = |why: std::io::Error| format!("cannot make {}: {why}", folder.display());
        std::fs::create_dir_all(folder).map_err(failed)?;
        self.give(folder)
    }

    /// Makes a file or folder this user's.
    pub(super) fn give(self, path: &Path) -> Result<(), String> {
        let Some((user, group)) = self.other else { return Ok(()) };
        let failed = |error| format!("cannot give {} away: {error}", path.display());
        chown(path, Some(Uid::from_raw(user)), Some(Gid::from_raw(group))).map_err(failed)
    }

    /// The same command, run as this user.
    pub(super) fn run_as(self, command: Vec<String>) -> Vec<String> {
        let Some((user, group)) = self.other else { return command };
        let switch = [
            "setpriv".to_owned(),
            format!("--reuid={user}"),
            format!("--regid={group}"),
            "--clear-groups".to_owned(),
            "--".to_owned(),
        ];
        switch.into_iter().chain(command).collect()
    }
}

/// The numbers of a user and of its group.
fn ids(users: &str, name: &str) -> Option<(u32, u32)> {
    let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_its_whole_name() {
        let users = "root:x:0:0::/:/bin/sh\nnobody2:x:1:1::/:\nnobody:x:65534:65533:n:/:/bin/no\n";
        assert_eq!(ids(users, "nobody"), Some((65_534, 65_533)));
        assert_eq!(ids(users, "postgres"), None);
    }
}
