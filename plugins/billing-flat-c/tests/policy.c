#include "check.h"

int main(void) {
    check_policy("currency=CNY vcpu=0.1 memory-gib=0.05 disk-gib=0.000000001");
    check_policy("currency=USD vcpu=1000000 memory-gib=0 disk-gib=0 instance-type.custom=3.25 disk-category.cloud=0.5 meter.eip=2");
    check_refusal("");
    check_refusal("currency=CNY vcpu=0.1 memory-gib=0.05");
    check_refusal("currency=CNY vcpu=-1 memory-gib=0 disk-gib=0");
    check_refusal("currency=CNY vcpu=1 memory-gib=0 disk-gib=0 vpcu=1");
    check_refusal("currency=CNY vcpu=1 memory-gib=0 disk-gib=0 meter.x=0.0000000001");
}
