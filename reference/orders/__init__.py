"""The shop the labs run: an order is placed, paid, reserved in the warehouse and shipped, one event after another."""
