;; Block with a detail that has two messages: it is dropped as a whole, and the verdict stands.
(module
  (@custom "portcullis.describe" "{\"name\":\"bad-detail\",\"version\":\"1.0.0\",\"abi\":{\"major\":2,\"minor\":0},\"phases\":[\"request\"],\"sections\":[\"requestLine\"]}")
  (memory (export "memory") 1)
  (data (i32.const 64)
    "\01\00\00\00\01\00\00\00" "a\00\00\00"
    "\01\00\00\00\01\00\00\00" "b\00\00\00")

  ;; One region for all that the host writes, behind the data: the memory is grown to hold it.
  (func (export "pc_buffer") (param $len i32) (result i32)
    (local $short i32)
    (local.set $short (i32.sub (i32.add (local.get $len) (i32.const 4096))
      (i32.shl (memory.size) (i32.const 16))))
    (if (i32.gt_s (local.get $short) (i32.const 0))
      (then (if (i32.eq (i32.const -1)
          (memory.grow (i32.shr_u (i32.add (local.get $short) (i32.const 65535)) (i32.const 16))))
        (then (return (i32.const 0))))))
    (i32.const 4096))

  (func (export "pc_request") (param $view i32) (param $len i32) (result i32)
    (i32.const 1))

  (func (export "pc_detail") (result i64)
    (i64.or (i64.shl (i64.const 64) (i64.const 32)) (i64.const 24))))
