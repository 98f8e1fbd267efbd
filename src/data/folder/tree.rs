//! Finds the classes of a folder, and the picture files of each.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};

use crate::data::error::DataError;
use crate::data::picture::{endings, is_named_as_picture};

const TRAIN: &str = "train";
const VALIDATION: &str = "val";
const TEST: &str = "test";

/// A picture file with the label of its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    pub path: PathBuf,
    pub label: u16,
}

/// The pictures of a data set, each list in the order of [`ordered`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// Sorted by their bytes.
    pub class_names: Vec<String>,
    pub train: Vec<Picture>,
    pub validation: Option<Vec<Picture>>,
    pub test: Option<Vec<Picture>>,
}

impl Tree {
    /// What is in `folder`: `train`, with `val`, `test` or both beside it, or else the classes themselves.
    pub fn of(folder: &Path) -> Result<Tree, DataError> {
        fs::read_dir(folder).map_err(DataError::io("open the picture folder", folder))?;
        let part = |name: &str| Some(folder.join(name)).filter(|path| path.is_dir());
        let (validation, test) = (part(VALIDATION), part(TEST));
        let train = match part(TRAIN) {
            Some(train) => train,
            None if validation.is_some() || test.is_some() => {
                return Err(wrong(
                    folder,
                    "a folder `train` beside `val` or `test`",
                    "none",
                ));
            }
            None => return Self::of_one_level(folder),
        };
        let class_names = class_names(&train)?;
        let other = |part: Option<PathBuf>| {
            let pictures = part.map(|part| {
                check_known(&part, &class_names)?;
                pictures_of(&part, &class_names)
            });
            pictures.transpose()
        };
        Ok(Tree {
            train: pictures_of(&train, &class_names)?,
            validation: other(validation)?,
            test: other(test)?,
            class_names,
        })
    }

    fn of_one_level(folder: &Path) -> Result<Tree, DataError> {
        let class_names = class_names(folder)?;
        Ok(Tree {
            train: pictures_of(folder, &class_names)?,
            validation: None,
            test: None,
            class_names,
        })
    }
}

/// The folders in `folder`, sorted. Hidden ones are no classes.
fn class_names(folder: &Path) -> Result<Vec<String>, DataError> {
    let mut names = Vec::new();
    let mut pictures = 0;
    for entry in entries(folder)? {
        let (name, path) = (entry.file_name(), entry.path());
        if path
            .metadata()
            .map_err(DataError::io("read", &path))?
            .is_dir()
        {
            let name = name.into_string().map_err(|_| {
                wrong(
                    &path,
                    "a class whose name is UTF-8",
                    "another one; rename the folder",
                )
            })?;
            names.push(name);
        } else if is_named_as_picture(&name) {
            pictures += 1;
        }
    }
    names.sort_unstable();
    if names.len() < 2 {
        let expected = "a folder for each of two or more classes, with pictures of the class in it";
        let got = match (names.first(), pictures) {
            (Some(name), _) => format!("the folder {name:?} alone"),
            (None, 0) => "no folder".to_owned(),
            (None, pictures) => format!("no folder, and {pictures} pictures"),
        };
        return Err(wrong(folder, expected, &got));
    }
    check_case(folder, &names)?;
    Ok(names)
}

/// Refuses names that some systems and people take for the same.
fn check_case(folder: &Path, names: &[String]) -> Result<(), DataError> {
    let mut seen: HashMap<String, &String> = HashMap::new();
    for name in names {
        if let Some(other) = seen.insert(name.to_lowercase(), name) {
            let got = format!("{other:?} and {name:?}; rename or join them");
            let expected = "classes whose names differ in more than upper and lower case";
            return Err(wrong(folder, expected, &got));
        }
    }
    Ok(())
}

/// Refuses a class of `part` that is not among those trained on, `known`.
fn check_known(part: &Path, known: &[String]) -> Result<(), DataError> {
    let names = entries(part)?
        .into_iter()
        .filter(|entry| entry.path().is_dir());
    for name in names.map(|entry| entry.file_name()) {
        if !known.iter().any(|class| OsStr::new(class) == name) {
            let got = format!("{name:?}, which train does not have");
            return Err(wrong(part, "the classes that train has", &got));
        }
    }
    Ok(())
}

/// The pictures of all classes in `folder`, which need not have all of them.
fn pictures_of(folder: &Path, class_names: &[String]) -> Result<Vec<Picture>, DataError> {
    let mut pictures = Vec::new();
    let mut others = Others::default();
    for (label, name) in class_names.iter().enumerate() {
        let class = folder.join(name);
        if !class.is_dir() {
            continue;
        }
        let found = pictures_in(&class, &mut others)?;
        if found.is_empty() {
            let expected = format!("pictures of the class, ending in {}", endings());
            return Err(wrong(&class, &expected, "none"));
        }
        let label = u16::try_from(label).map_err(|_| {
            let got = format!("{}", class_names.len());
            wrong(folder, "at most 65535 classes", &got)
        })?;
        pictures.extend(found.into_iter().map(|path| Picture { path, label }));
    }
    if pictures.is_empty() {
        return Err(wrong(
            folder,
            "a folder for each class, with pictures",
            "none",
        ));
    }
    others.report(folder);
    Ok(ordered(pictures))
}

/// What is left out of class folders.
#[derive(Default)]
struct Others {
    count: usize,
    first: Option<PathBuf>,
}

impl Others {
    fn add(&mut self, path: PathBuf) {
        self.count += 1;
        self.first.get_or_insert(path);
    }

    fn report(&self, folder: &Path) {
        if let Some(first) = &self.first {
            log::warn!(
                "{}: {} files or folders in the class folders are left out, as they do not end in {}; the first is {}",
                folder.display(),
                self.count,
                endings(),
                first.display()
            );
        }
    }
}

/// The files in the folder `class` that are named as pictures; what is neither that nor hidden goes to `others`.
fn pictures_in(class: &Path, others: &mut Others) -> Result<Vec<PathBuf>, DataError> {
    let mut pictures = Vec::new();
    for entry in entries(class)? {
        // A link that leads nowhere is a picture that cannot be read, and is named with the others of these.
        let is_file = match entry.path().metadata() {
            Ok(metadata) => metadata.is_file(),
            Err(_) => true,
        };
        match is_file && is_named_as_picture(&entry.file_name()) {
            true => pictures.push(entry.path()),
            false => others.add(entry.path()),
        }
    }
    Ok(pictures)
}

/// What is in `folder`, without hidden names.
fn entries(folder: &Path) -> Result<Vec<DirEntry>, DataError> {
    let read = || -> io::Result<Vec<DirEntry>> { fs::read_dir(folder)?.collect() };
    let mut entries = read().map_err(DataError::io("read the folder", folder))?;
    entries.retain(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."));
    Ok(entries)
}

/// By file name, and of equal names by class.
fn ordered(mut pictures: Vec<Picture>) -> Vec<Picture> {
    let name = |picture: &Picture| picture.path.file_name().map(OsStr::to_owned);
    pictures.sort_by_cached_key(|picture| (name(picture), picture.label));
    pictures
}

fn wrong(path: &Path, expected: &str, got: &str) -> DataError {
    DataError::Folder {
        path: path.to_owned(),
        expected: expected.to_owned(),
        got: got.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// A folder with empty files at `paths`; a path that ends in / is a folder.
    fn folder(paths: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for path in paths {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match path.to_str().unwrap().ends_with('/') {
                true => fs::create_dir_all(&path).unwrap(),
                false => fs::write(&path, "").unwrap(),
            }
        }
        folder
    }

    /// The end of the error for a folder with `paths`, after the folder's own path.
    fn refused(paths: &[&str]) -> String {
        let folder = folder(paths);
        let error = Tree::of(folder.path()).unwrap_err().to_string();
        let root = folder.path().to_str().unwrap();
        assert!(error.starts_with(root), "{error}");
        error.replace(root, "")
    }

    fn names(pictures: &[Picture], root: &Path) -> Vec<(String, u16)> {
        let name = |p: &Picture| {
            p.path
                .strip_prefix(root)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        };
        pictures.iter().map(|p| (name(p), p.label)).collect()
    }

    #[test]
    fn pictures_are_in_the_order_of_their_names_and_then_of_their_classes() {
        let folder = folder(&[
            "dog/2.png",
            "dog/1.JPG",
            "cat/2.webp",
            "cat/10.bmp",
            "cat/3.jpeg",
            "cat/notes.txt",
            "cat/.hidden.png",
            "dog/deeper/4.png",
            ".git/x.png",
            "README.md",
        ]);
        let tree = Tree::of(folder.path()).unwrap();
        assert_eq!(tree.class_names, ["cat", "dog"]);
        let expected = [
            ("dog/1.JPG", 1),
            ("cat/10.bmp", 0),
            ("dog/2.png", 1),
            ("cat/2.webp", 0),
            ("cat/3.jpeg", 0),
        ];
        let expected = expected.map(|(name, label)| (name.to_owned(), label));
        assert_eq!(names(&tree.train, folder.path()), expected);
        assert_eq!((tree.validation, tree.test), (None, None));
    }

    #[test]
    fn of_two_levels_each_part_has_the_labels_of_train() {
        let folder = folder(&[
            "train/a/1.png",
            "train/b/1.png",
            "train/c/1.png",
            "val/c/7.png",
            "val/a/8.png",
            "test/b/9.png",
        ]);
        let tree = Tree::of(folder.path()).unwrap();
        let in_part = |part: &Option<Vec<Picture>>| names(part.as_ref().unwrap(), folder.path());
        let owned = |name: &str, label| (name.to_owned(), label);
        assert_eq!(
            in_part(&tree.validation),
            [owned("val/c/7.png", 2), owned("val/a/8.png", 0)]
        );
        assert_eq!(in_part(&tree.test), [owned("test/b/9.png", 1)]);
        assert_eq!(tree.train.len(), 3);
    }

    #[test]
    fn what_is_no_folder_of_classes_is_refused_with_what_is_there() {
        let two = "expected a folder for each of two or more classes, with pictures of the class in it, got ";
        for (paths, expected) in [
            (&["x.txt"][..], format!(": {two}no folder")),
            (&["1.png", "2.png"], format!(": {two}no folder, and 2 pictures")),
            (&["a/1.png"], format!(": {two}the folder \"a\" alone")),
            (&["train/a/1.png", "test/a/1.png"], format!("/train: {two}the folder \"a\" alone")),
            (
                &["a/1.png", "b/1.txt"],
                "/b: expected pictures of the class, ending in .png, .jpg, .jpeg, .webp, .bmp, got none".to_owned(),
            ),
            (
                &["Cat/1.png", "cat/1.png", "dog/1.png"],
                ": expected classes whose names differ in more than upper and lower case, got \"Cat\" and \"cat\"; \
                 rename or join them"
                    .to_owned(),
            ),
            (
                &["train/a/1.png", "train/b/1.png", "val/a/1.png", "val/c/1.png"],
                "/val: expected the classes that train has, got \"c\", which train does not have".to_owned(),
            ),
            (
                &["train/a/1.png", "train/b/1.png", "val/readme.txt"],
                "/val: expected a folder for each class, with pictures, got none".to_owned(),
            ),
            (
                &["val/a/1.png", "val/b/1.png"],
                ": expected a folder `train` beside `val` or `test`, got none".to_owned(),
            ),
        ] {
            assert_eq!(refused(paths), expected, "{paths:?}");
        }
    }

    #[test]
    fn a_link_that_leads_round_in_a_circle_or_nowhere_ends_in_an_error_and_not_in_a_loop() {
        let folder = folder(&["a/1.png", "b/1.png"]);
        let root = folder.path();
        // A class folder is not searched for folders, so one that leads back up is left out.
        symlink(root, root.join("a/up.png")).unwrap();
        symlink("nowhere.png", root.join("b/2.png")).unwrap();
        let tree = Tree::of(root).unwrap();
        let found: Vec<_> = names(&tree.train, root)
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(found, ["a/1.png", "b/1.png", "b/2.png"]);
        symlink("circle", root.join("circle")).unwrap();
        let error = Tree::of(root).unwrap_err().to_string();
        assert!(
            error.contains("circle: ") && error.contains("symbolic links"),
            "{error}"
        );
    }

    #[test]
    fn a_class_folder_that_may_not_be_read_is_named() {
        let folder = folder(&["a/1.png", "b/1.png"]);
        let closed = folder.path().join("b");
        let set_mode = |mode| fs::set_permissions(&closed, Permissions::from_mode(mode)).unwrap();
        set_mode(0o000);
        if fs::read_dir(&closed).is_ok() {
            println!("skipped: this user may read every folder");
            return;
        }
        let error = Tree::of(folder.path()).unwrap_err().to_string();
        set_mode(0o755);
        let expected = format!(
            "cannot read the folder {}: Permission denied",
            closed.display()
        );
        assert!(error.starts_with(&expected), "{error}");
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = Tree::of(Path::new("/no/such/folder"))
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("cannot open the picture folder /no/such/folder: "),
            "{error}"
        );
    }
}
