// SPDX-License-Identifier: ISC
//! What a recipe takes from places that lie inside the very chroot that it makes, as a snapshot that was fetched there: a
//! build that cleaned it up could not be repeated.
#![forbid(unsafe_code)]

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::path::TreePath;
use crate::recipe::Recipe;

/// The paths below `root` out of which `recipe` is built.
pub(crate) fn sources_of(recipe: &Recipe, root: &Path) -> Vec<TreePath> {
    // As they are called, and where links lead: what is kept is the place, and the way to it.
    let real = |path: &Path| path.canonicalize().ok();
    let roots = [Some(root.to_owned()), real(root)];
    let named = recipe.named_on_host().into_iter().flat_map(|path| [Some(path.to_owned()), real(path)]).flatten();
    let below = |path: std::path::PathBuf| {
        roots.iter().flatten().find_map(|root| Some(path.strip_prefix(root).ok()?.to_owned()))
    };
    let paths = named.filter_map(below).filter_map(|path| TreePath::lenient(path.as_os_str().as_bytes()).ok());
    paths.filter(|path| !path.is_root()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::parse;

    #[test]
    fn what_lies_inside_is_found_by_both_its_names() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("root");
        for dir in ["root/snap", "root/deep/sets", "other", "rooty"] {
            std::fs::create_dir_all(temp.path().join(dir)).unwrap();
        }
        std::os::unix::fs::symlink("root/deep", temp.path().join("link")).unwrap();
        for (source, want) in [
            ("directory = \"root/snap\"", &["snap"][..]),
            ("sets = [\"base\"]\ndirectory = \"link/sets\"", &["deep/sets"]),
            ("sets = [\"base\"]\ndirectory = \"other\"\nkey = \"root/k.pub\"", &["k.pub"]),
            ("locate = [\"root/gone.db\"]\ndirectory = \"/\"", &["gone.db"]),
            ("archive = \"root/a.tgz\"\nlist = \"root/SHA256\"", &["a.tgz", "SHA256"]),
            ("directory = \"rooty\"", &[]),
            ("directory = \"root\"", &[]),
            ("directory = \"/\"", &[]),
        ] {
            let recipe =
                parse(&format!("[[source]]\n{source}\n"), temp.path().join("r.toml").to_str().unwrap()).unwrap();
            let mut found: Vec<String> = sources_of(&recipe, &root).iter().map(TreePath::to_string).collect();
            found.dedup();
            assert_eq!(found, want, "{source}");
        }
    }
}
