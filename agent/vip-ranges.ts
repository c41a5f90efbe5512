export { isWithin } from '../api/cidr.ts';
