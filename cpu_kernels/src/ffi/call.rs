//! A call of a kernel, out of the structs in which XLA passes it.
//!
//! All that is read through an address is checked first: that the struct is as long as the version of the interface
//! has it, that an array has the type that it is read as, and that what is read or written lies in it.

use std::cell::RefCell;
use std::ffi::CString;
use std::mem::{align_of, offset_of, size_of};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::{ptr, slice};

use kernel_contract::PLAN;

use super::c_api::{
    ATTRIBUTE_ARRAY, Api, Array, Attributes, BUFFER, Buffer, Buffers, CallFrame, EXECUTE,
    EXTENSION_METADATA, Error, ErrorCreateArgs, INTERNAL, INVALID_ARGUMENT, MAJOR, MINOR, Metadata,
    MetadataExtension, S32,
};
use super::element::{self, Element};
use super::error::CallError;

/// A call of a kernel.
pub struct Call<'a> {
    frame: &'a CallFrame,
    plan: &'a [i32],
    /// Results that were given out.
    given: usize,
    /// The addresses of what was given out to be read, and to be written.
    read: RefCell<Vec<Range<usize>>>,
    written: Vec<Range<usize>>,
}

/// Answers XLA's call of a kernel: runs `kernel`, and makes an error of XLA's of what goes wrong.
///
/// # Safety
/// `frame` must be what XLA passed to a handler.
pub unsafe fn answer(
    frame: *mut CallFrame,
    kernel: impl FnOnce(&mut Call) -> Result<(), CallError>,
) -> *mut Error {
    // SAFETY: the caller's promise, for all of it.
    unsafe {
        if say_version(frame) {
            return ptr::null_mut();
        }
        let run = || -> Result<(), CallError> {
            check_size("the frame", frame, size_of::<CallFrame>())?;
            if (*frame).stage != EXECUTE {
                return Ok(());
            }
            kernel(&mut Call::new(&*frame)?)
        };
        let result = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
            Err(CallError::Panic(text.unwrap_or_default()))
        });
        match result {
            Ok(()) => ptr::null_mut(),
            Err(error) => xla_error((*frame).api, &error),
        }
    }
}

/// XLA's question which version of the interface a handler speaks, if `frame` is that: answers it.
///
/// # Safety
/// As for [`answer`].
unsafe fn say_version(frame: *mut CallFrame) -> bool {
    // SAFETY: the caller's promise. An extension of this type goes on with the address of a struct to be filled.
    unsafe {
        let extension = (*frame).extension_start;
        if extension.is_null() || (*extension).kind != EXTENSION_METADATA {
            return false;
        }
        let metadata = (*extension.cast::<MetadataExtension>()).metadata;
        if check_size("the metadata", metadata, size_of::<Metadata>()).is_ok() {
            (*metadata).api_version.major = MAJOR;
            (*metadata).api_version.minor = MINOR;
        }
        true
    }
}

/// `error` as XLA's.
///
/// # Safety
/// `api` must be XLA's.
unsafe fn xla_error(api: *const Api, error: &CallError) -> *mut Error {
    let message = CString::new(error.to_string().replace('\0', " ")).unwrap_or_default();
    let mut args = ErrorCreateArgs {
        struct_size: offset_of!(ErrorCreateArgs, code) + size_of::<i32>(),
        extension_start: ptr::null(),
        message: message.as_ptr(),
        code: match error {
            CallError::Panic(_) => INTERNAL,
            _ => INVALID_ARGUMENT,
        },
    };
    // SAFETY: the caller's promise; XLA copies the message.
    match unsafe { (*api).error_create } {
        Some(create) => unsafe { create(&mut args) },
        None => ptr::null_mut(),
    }
}

/// Refuses a struct that is not there or is shorter than `expected`.
///
/// # Safety
/// `start` is null, or where a struct begins that begins with its size.
unsafe fn check_size<T>(
    what: &'static str,
    start: *const T,
    expected: usize,
) -> Result<(), CallError> {
    let got = match start.is_null() {
        true => 0,
        // SAFETY: the caller's promise.
        false => unsafe { *start.cast::<usize>() },
    };
    match got >= expected {
        true => Ok(()),
        false => Err(CallError::Struct {
            what,
            expected,
            got,
        }),
    }
}

/// `len` elements from `start` on; none where there is no `start`.
///
/// # Safety
/// They are there, for as long as the result is used.
unsafe fn elements<'a, T>(start: *const T, len: i64) -> &'a [T] {
    match usize::try_from(len) {
        Ok(len) if len > 0 && !start.is_null() => {
            // SAFETY: the caller's promise.
            unsafe { slice::from_raw_parts(start, len) }
        }
        _ => &[],
    }
}

impl<'a> Call<'a> {
    /// # Safety
    /// `frame` must be XLA's, of the size that we know or longer.
    unsafe fn new(frame: &'a CallFrame) -> Result<Self, CallError> {
        // SAFETY: the caller's promise.
        unsafe {
            check_size(
                "the list of operands",
                &frame.arguments,
                size_of::<Buffers>(),
            )?;
            check_size("the list of results", &frame.results, size_of::<Buffers>())?;
            let attributes = &frame.attributes;
            check_size(
                "the list of attributes",
                attributes,
                size_of::<Attributes>(),
            )?;
            let plan = plan(attributes).ok_or(CallError::NoPlan)?;
            Ok(Self {
                frame,
                plan,
                given: 0,
                read: RefCell::default(),
                written: Vec::new(),
            })
        }
    }

    /// The numbers of the plan.
    pub fn plan(&self) -> &'a [i32] {
        self.plan
    }

    /// `count` elements of operand number `index`, from its value number `start` on.
    pub fn operand<T: Element>(
        &self,
        index: usize,
        start: usize,
        count: usize,
    ) -> Result<&'a [T], CallError> {
        let name = || format!("operand {index}");
        // SAFETY: XLA made the list.
        let buffer = unsafe { buffer(&self.frame.arguments, index, &name)? };
        let data = part::<T>(buffer, start, count, &name)?;
        let range = addresses(data, count);
        apart(&name, &range, &self.written)?;
        self.read.borrow_mut().push(range);
        // SAFETY: `part` checked that they lie in the array; nothing of them is given out to be written.
        Ok(unsafe { slice::from_raw_parts(data, count) })
    }

    /// All of the next result, which must have `count` elements.
    pub fn next_result<T: Element>(&mut self, count: usize) -> Result<&'a mut [T], CallError> {
        let (index, buffer) = self.next()?;
        let name = || format!("result {index}");
        if len(buffer) != Some(count * T::VALUES) {
            return Err(wrong_len(&name, count * T::VALUES, buffer));
        }
        self.result(buffer, 0, count, &name)
    }

    /// `count` elements of the next result, from its value number `start` on. The result must be in the place of operand
    /// number `operand`.
    pub fn next_result_in<T: Element>(
        &mut self,
        operand: usize,
        start: usize,
        count: usize,
    ) -> Result<&'a mut [T], CallError> {
        let (index, buffer) = self.next()?;
        let name = || format!("result {index}");
        let operand_name = || format!("operand {operand}");
        // SAFETY: XLA made the list.
        let operand = unsafe { self::buffer(&self.frame.arguments, operand, &operand_name)? };
        let place = |buffer: &Buffer| (buffer.data, len(buffer));
        if place(buffer) != place(operand) {
            return Err(CallError::Array {
                array: name(),
                expected: format!("the place of {}", operand_name()),
                got: "another".to_owned(),
            });
        }
        self.result(buffer, start, count, &name)
    }

    /// The next result and its number.
    fn next(&mut self) -> Result<(usize, &'a Buffer), CallError> {
        let index = self.given;
        self.given += 1;
        // SAFETY: XLA made the list.
        let buffer = unsafe { buffer(&self.frame.results, index, &|| format!("result {index}"))? };
        Ok((index, buffer))
    }

    fn result<T: Element>(
        &mut self,
        buffer: &Buffer,
        start: usize,
        count: usize,
        name: &dyn Fn() -> String,
    ) -> Result<&'a mut [T], CallError> {
        let data = part::<T>(buffer, start, count, name)?;
        let range = addresses(data, count);
        apart(name, &range, &self.read.borrow())?;
        apart(name, &range, &self.written)?;
        self.written.push(range);
        // SAFETY: `part` checked that they lie in the array; nothing of them is given out otherwise.
        Ok(unsafe { slice::from_raw_parts_mut(data.cast_mut(), count) })
    }
}

/// The numbers of the attribute [`PLAN`].
///
/// # Safety
/// `attributes` must be XLA's.
unsafe fn plan(attributes: &Attributes) -> Option<&[i32]> {
    // SAFETY: the interface says that the three lists are as long as `len` says, and what an attribute of a kind is.
    unsafe {
        let kinds = elements(attributes.kinds, attributes.len);
        let names = elements(attributes.names, attributes.len);
        let values = elements(attributes.values, attributes.len);
        for ((kind, name), value) in kinds.iter().zip(names).zip(values) {
            let name = elements((**name).start.cast::<u8>(), (**name).len as i64);
            if name == PLAN.as_bytes() && *kind == ATTRIBUTE_ARRAY {
                let array = &*value.cast::<Array>();
                let is_s32 = array.data_type == S32;
                return is_s32.then(|| elements(array.data.cast(), array.len as i64));
            }
        }
        None
    }
}

/// Array number `index` of a list.
///
/// # Safety
/// `list` must be XLA's.
unsafe fn buffer<'a>(
    list: &'a Buffers,
    index: usize,
    name: &dyn Fn() -> String,
) -> Result<&'a Buffer, CallError> {
    // SAFETY: the interface says that both lists are as long as `len` says, and what a buffer is.
    unsafe {
        let kinds = elements(list.kinds, list.len);
        let buffers = elements(list.buffers, list.len);
        match (kinds.get(index), buffers.get(index)) {
            (Some(&BUFFER), Some(&buffer)) => {
                check_size("an array", buffer, size_of::<Buffer>())?;
                Ok(&*buffer)
            }
            _ => Err(CallError::Array {
                array: name(),
                expected: "an array".to_owned(),
                got: format!("none, of {} in all", buffers.len()),
            }),
        }
    }
}

/// Where in `buffer` `count` elements lie, from its value number `start` on.
fn part<T: Element>(
    buffer: &Buffer,
    start: usize,
    count: usize,
    name: &dyn Fn() -> String,
) -> Result<*const T, CallError> {
    if buffer.data_type != T::DATA_TYPE {
        return Err(CallError::Array {
            array: name(),
            expected: element::name(T::DATA_TYPE),
            got: element::name(buffer.data_type),
        });
    }
    let end = count
        .checked_mul(T::VALUES)
        .and_then(|n| n.checked_add(start));
    let end = end.unwrap_or(usize::MAX);
    if len(buffer).is_none_or(|len| end > len) {
        return Err(wrong_len(name, end, buffer));
    }
    if count == 0 {
        return Ok(ptr::dangling());
    }
    let bytes = start * (size_of::<T>() / T::VALUES);
    let data = buffer.data.wrapping_byte_add(bytes).cast_const();
    if buffer.data.is_null() || !data.addr().is_multiple_of(align_of::<T>()) {
        return Err(CallError::Array {
            array: name(),
            expected: format!("an address that is a multiple of {}", align_of::<T>()),
            got: format!("{data:?}"),
        });
    }
    Ok(data.cast::<T>())
}

/// Where `count` elements from `data` on lie.
fn addresses<T>(data: *const T, count: usize) -> Range<usize> {
    let start = data.addr();
    start..start + count * size_of::<T>()
}

/// Refuses what lies at `range` where some of it lies in one of `others`.
fn apart(
    name: &dyn Fn() -> String,
    range: &Range<usize>,
    others: &[Range<usize>],
) -> Result<(), CallError> {
    let meets = |other: &Range<usize>| range.start < other.end && other.start < range.end;
    match others.iter().any(meets) {
        false => Ok(()),
        true => Err(CallError::Array {
            array: name(),
            expected: "a place of its own".to_owned(),
            got: "one that another array shares".to_owned(),
        }),
    }
}

/// The number of values of `buffer`.
fn len(buffer: &Buffer) -> Option<usize> {
    // SAFETY: the interface says that there are as many as the rank says.
    let dims = unsafe { elements(buffer.dims, buffer.rank) };
    let mut sizes = dims.iter().map(|&size| usize::try_from(size).ok());
    sizes.try_fold(1usize, |len, size| len.checked_mul(size?))
}

fn wrong_len(name: &dyn Fn() -> String, expected: usize, buffer: &Buffer) -> CallError {
    CallError::Array {
        array: name(),
        expected: format!("{expected} values"),
        got: len(buffer).unwrap_or_default().to_string(),
    }
}
