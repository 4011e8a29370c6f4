"""What can be measured of mined negatives."""
