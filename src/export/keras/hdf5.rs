//! HDF5 files of f32 arrays in groups, by the HDF5 File Format Specification, version 3.0.
//!
//! Of the ways that the format has, the plainest: a superblock of version 0, object headers of version 1, links in the
//! header of their group, arrays in one piece.

/// A group or an array.
pub enum Node<'a> {
    /// What is in it, by name.
    Group(Vec<(String, Node<'a>)>),
    /// Values in row-major order.
    Array {
        dims: &'a [usize],
        values: &'a [f32],
    },
}

const SIGNATURE: &[u8; 8] = b"\x89HDF\r\n\x1a\n";
const SUPERBLOCK_LEN: usize = 96;
/// No address.
const NOWHERE: u64 = u64::MAX;

/// Kinds of messages in an object's header.
const DATASPACE: u16 = 1;
const LINK_INFO: u16 = 2;
const DATATYPE: u16 = 3;
const FILL_VALUE: u16 = 5;
const LINK: u16 = 6;
const LAYOUT: u16 = 8;
const GROUP_INFO: u16 = 10;

/// The file with `root` as its root group.
pub fn file(root: &Node) -> Vec<u8> {
    let mut file = vec![0; SUPERBLOCK_LEN];
    let root = write(&mut file, root);
    let superblock = superblock(root, file.len() as u64);
    file[..SUPERBLOCK_LEN].copy_from_slice(&superblock);
    file
}

fn superblock(root: u64, end_of_file: u64) -> Vec<u8> {
    let mut block = SIGNATURE.to_vec();
    // Versions of the parts, then the sizes of offsets and lengths.
    block.extend([0, 0, 0, 0, 0, 8, 8, 0]);
    // How many symbols a node of the older kind of group has: there are none.
    block.extend([4, 0, 16, 0]);
    block.extend([0; 4]);
    // Base address, free space, end, driver.
    for address in [0, NOWHERE, end_of_file, NOWHERE] {
        block.extend(address.to_le_bytes());
    }
    // The root's entry: the offset of its name, its header, nothing cached.
    block.extend(0u64.to_le_bytes());
    block.extend(root.to_le_bytes());
    block.resize(SUPERBLOCK_LEN, 0);
    block
}

/// Appends `node`, after everything in it, and returns the address of its header.
fn write(file: &mut Vec<u8>, node: &Node) -> u64 {
    let messages = match node {
        Node::Group(members) => group(file, members),
        Node::Array { dims, values } => array(file, dims, values),
    };
    header(file, &messages)
}

fn group(file: &mut Vec<u8>, members: &[(String, Node)]) -> Vec<(u16, Vec<u8>)> {
    // Version and flags; no heap and no index of the links, which are all in the header.
    let mut link_info = vec![0, 0];
    link_info.extend([NOWHERE.to_le_bytes(); 2].as_flattened());
    let mut messages = vec![(LINK_INFO, link_info), (GROUP_INFO, vec![0, 0])];
    for (name, member) in members {
        let address = write(file, member);
        // Version, flags: a hard link whose name's length is in one byte.
        let mut link = vec![1, 0, name.len() as u8];
        link.extend(name.as_bytes());
        link.extend(address.to_le_bytes());
        messages.push((LINK, link));
    }
    messages
}

fn array(file: &mut Vec<u8>, dims: &[usize], values: &[f32]) -> Vec<(u16, Vec<u8>)> {
    let address = file.len() as u64;
    file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    align(file);

    // Version, rank, no flags.
    let mut dataspace = vec![1, dims.len() as u8, 0, 0, 0, 0, 0, 0];
    dataspace.extend(dims.iter().flat_map(|dim| (*dim as u64).to_le_bytes()));
    // Version, contiguous.
    let mut layout = vec![3, 1];
    layout.extend(address.to_le_bytes());
    layout.extend((size_of_val(values) as u64).to_le_bytes());
    vec![
        (DATASPACE, dataspace),
        (DATATYPE, float_type()),
        // Version, memory when it is needed, written if there is one, and there is none.
        (FILL_VALUE, vec![2, 2, 2, 0]),
        (LAYOUT, layout),
    ]
}

/// IEEE 754 binary32, little-endian.
fn float_type() -> Vec<u8> {
    // Version 1 and class 1; implied leading bit; the sign is bit 31.
    let mut float = vec![0x11, 0x20, 31, 0];
    float.extend(4u32.to_le_bytes());
    // First bit and number of bits of the value; first bit and number of bits of exponent and mantissa.
    float.extend([0, 0, 32, 0, 23, 8, 0, 23]);
    float.extend(127u32.to_le_bytes());
    float
}

/// Appends an object's header and returns its address.
fn header(file: &mut Vec<u8>, messages: &[(u16, Vec<u8>)]) -> u64 {
    let mut body = Vec::new();
    for (kind, content) in messages {
        let padded = content.len().next_multiple_of(8);
        body.extend(kind.to_le_bytes());
        body.extend((padded as u16).to_le_bytes());
        // No flags.
        body.extend([0; 4]);
        body.extend(content);
        align(&mut body);
    }
    let address = file.len() as u64;
    file.extend([1, 0]);
    file.extend((messages.len() as u16).to_le_bytes());
    // One link leads here.
    file.extend(1u32.to_le_bytes());
    file.extend((body.len() as u32).to_le_bytes());
    align(file);
    file.extend(body);
    address
}

/// Everything begins at a multiple of eight bytes.
fn align(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(8), 0);
}
